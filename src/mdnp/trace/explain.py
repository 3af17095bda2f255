"""What to do about a rule that drops. Pure."""

from collections.abc import Mapping

from mdnp.dataplane.naming import FORWARD_CHAIN, TABLE
from mdnp.trace.events import Pass

_GUARD = (
    "the guard lets an endpoint send only from its own MAC and addresses: let the container use the address that Docker"
    " gave it, or allow more with --driver-opt mdnp.allow=ADDRESS"
)
_NO_WAY_OUT = (
    "the network has no way out through the host (--internal, or its gateway mode): use a network that has one"
)
_CLOSED_WITHIN = (
    "the network was made with com.docker.network.bridge.enable_icc=false: its containers see only the host"
)
_ANSWERED_HERE = "nothing is lost: who is on this host, and the gateway, are not asked for on others"

# Of our own rules those that drop, by family, chain and the rule as it was loaded.
OURS: Mapping[tuple[str, str, str], str] = {
    ("inet", "loopback", "ip daddr 127.0.0.0/8 iifname @bridges drop"): (
        "containers do not reach the host's loopback: let the service listen at an address of the host"
    ),
    ("inet", "loopback", "ip saddr 127.0.0.0/8 iifname @bridges drop"): (
        "a container must not send from a loopback address: bind the program to its own address"
    ),
    (
        "inet",
        "others",
        "drop",
    ): "the network's containers do not reach the host (internal): use a network with a gateway",
    ("inet", "forward", "iifname @closed drop"): _NO_WAY_OUT,
    ("inet", "forward", "oifname @closed drop"): (
        "isolation: the target's network is closed to others (--internal, or its gateway mode): connect the container"
        " to it"
    ),
    ("inet", "tunneled", "iifname @bridges @th,96,24 @vnis drop"): (
        "VXLAN of an overlay comes from other hosts, never from a container of ours"
    ),
    ("inet", "tunneled", "@th,96,24 @vnis drop"): (
        "VXLAN of an overlay is taken from hosts of its segment only: see `mdnp host ls` for whether the sender is one,"
        " and tells the address that it sends from (setting host_address)"
    ),
    ("inet", "forward", 'iifname "mdh-*" drop'): (
        "the host's own address in a segment is no router: let the container use its gateway"
    ),
    ("inet", "forward", "iifname @bridges oifname @bridges drop"): (
        "isolation: networks are closed to each other: connect the container to the target's network"
        " (docker network connect), or publish the port and use the host's address"
    ),
    ("inet", "forward", 'meta oifkind "bridge" oifname != @uplinks drop'): (
        "isolation: a bridge of somebody else's (Docker's own, or of virtual machines) is closed to ours: put both on"
        " one network, or publish the port and use the host's address"
    ),
    ("inet", "inbound", "drop"): (
        "the port is not published: publish it, or connect the container to the target's network"
    ),
    ("bridge", "from_noicc", "drop"): _CLOSED_WITHIN,
    ("bridge", "forward", "iifname @noicc drop"): _CLOSED_WITHIN,
    ("bridge", "forward", "iifname . oifname @returns drop"): (
        "it is for all, and came by a joint, below which all have it already"
    ),
    (
        "bridge",
        "forward",
        "oifname . ether saddr @macs drop",
    ): "the bridge does not send a frame back to where it came from",
    ("bridge", "denied", "iifname @guarded drop"): _GUARD,
    (
        "bridge",
        "crossing",
        "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 oifname . ether saddr @anycast drop",
    ): _ANSWERED_HERE,
    ("bridge", "crossing", "oifname . arp daddr ip @here4 drop"): _ANSWERED_HERE,
    ("bridge", "crossing", "icmpv6 type { nd-router-solicit, nd-router-advert, nd-redirect } drop"): (
        "every host is its own way out of an overlay: routers are not announced to other hosts"
    ),
    (
        "bridge",
        "crossing",
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } oifname . @th,64,128 @here6 drop",
    ): _ANSWERED_HERE,
}


def advice(passed: Pass) -> str:
    """What the user may do about the pass at which the packet died."""
    if passed.table == TABLE and passed.by:
        return _of_ours(passed.family, passed.by.chain, passed.by.text)
    if passed.table == TABLE:
        return "somebody changed mdnp's table: `mdnp status --diff`"
    if passed.by is not None and (passed.table, passed.chain) == ("raw", "PREROUTING"):
        return (
            "isolation, if the rule is Docker's: from 28 on it lets only a network's own bridge reach its containers'"
            " addresses: put both on one network, or publish the port and use the host's address"
        )
    if passed.by is None and (passed.table, passed.chain) == ("filter", "FORWARD"):
        return (
            f"Docker sets this policy, and mdnp's accepting rules in {FORWARD_CHAIN} were not reached or are missing:"
            " `mdnp status --diff`, and look for rules above them that return"
        )
    if passed.by is None:
        return "the policy is not mdnp's: let what is wanted pass in this chain, or change who set it"
    return "the rule is not mdnp's: change it where it was made, or let this traffic pass before it"


def _of_ours(family: str, chain: str, text: str) -> str:
    strange = "mdnp does not know this rule, which stands in its table: `mdnp status --diff`"
    return OURS.get((family, chain, text), strange)
