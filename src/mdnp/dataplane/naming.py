"""
The names and marks of what is ours in the kernel, each with the reason for its value.

A link name has at most 15 bytes (IFNAMSIZ less the final zero): four of prefix and eleven of Docker's id, which is
44 bits of a random number. A prefix says the kind, so that `ip link` reads like a list of what there is. A network's
annexes are counted, and their number takes three of the eleven.
"""

from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import Network

ID_LENGTH = 11
_ID_OF_AN_ANNEX_LENGTH = 8

# Of annexes too, so that who knows bridges by it, as the rules in Docker's chain, knows them; no id has a dash.
BRIDGE_PREFIX = "mdb-"
HOST_END_PREFIX = "mdv-"
# The end that Docker takes into the sandbox and renames there. In the host's namespace it is only seen before Join
# and after Leave.
SANDBOX_END_PREFIX = "mdp-"
# The VXLAN link of an overlay: x as in VXLAN. Rules of our tables know them by the prefix.
TUNNEL_PREFIX = "mdx-"
# The veth by which the host itself stands in a segment: h is its end, with its address; i is the end in the bridge.
# Rules know them by the prefix too.
OWN_END_PREFIX = "mdh-"
INNER_END_PREFIX = "mdi-"
# The joint of an annex, a veth: u is its upper end, in the network's own bridge; w, what hangs below a u, its lower
# end, in the annex. Rules know the lower ones by the prefix.
UPPER_END_PREFIX = "mdu-"
LOWER_END_PREFIX = "mdw-"
# Veths of which both ends stay with the host: what makes the pair, and its peer.
PAIR_PREFIXES = (INNER_END_PREFIX, UPPER_END_PREFIX)
PEER_PREFIXES = (OWN_END_PREFIX, LOWER_END_PREFIX)
PREFIXES = (BRIDGE_PREFIX, HOST_END_PREFIX, SANDBOX_END_PREFIX, TUNNEL_PREFIX, *PAIR_PREFIXES, *PEER_PREFIXES)

# The group (IFLA_GROUP) marks every link of ours, also bridges whose name the user chose. It is what makes a link
# ours beyond doubt, so it must be a number that nobody else picks: "mdnp" in ASCII.
GROUP = int.from_bytes(b"mdnp", "big")
# Links that are about to die, deleted together: the kernel waits about 17 ms (an RCU grace period) for one deletion or
# for a whole group. "mdnx" in ASCII.
DOOMED_GROUP = int.from_bytes(b"mdnx", "big")

# The routing table by which the host itself goes into segments: everything in it is ours. "mdnp" in ASCII, beyond the
# 255 that have names (/etc/iproute2/rt_tables) and whatever people count up to.
ROUTE_TABLE = GROUP
# Who made a route, a rule or a neighbour (rtm_protocol, FRA_PROTOCOL, NDA_PROTOCOL): "m" in ASCII, which no routing
# daemon has (/etc/iproute2/rt_protos).
ROUTE_PROTOCOL = ord("m")
# Before the main table (32766) and the rules by which VPNs send everything elsewhere (wg-quick: 32764), as our table
# leads to nothing but pools of ours. "ld" in ASCII.
LOOKUP_PRIORITY = int.from_bytes(b"ld", "big")

# Our nft tables, one of family inet and one of family bridge: everything in them is ours. In a sandbox there is one of
# family ip.
TABLE = "mdnp"
# What our own questions bear in a sandbox (SO_MARK), so that our rule there passes them on to Docker's embedded DNS.
# All 32 bits are compared, so it must be a number that neither Docker (Swarm's services count up from 256) nor a VPN
# or a proxy in a container picks: "mdnp" in ASCII.
MARK = GROUP

# The chain that Docker leaves to others, walked before its own rules, and the comment that says a rule in it is ours.
FORWARD_CHAIN = "DOCKER-USER"
RULE_COMMENT = "mdnp"


def bridge(network: Network, annex: int = 0) -> str:
    """The network's own, or one of its annexes, which are counted from 1."""
    if annex:
        return f"{BRIDGE_PREFIX}{_of_annex(network, annex)}"
    return network.options.bridge_name or f"{BRIDGE_PREFIX}{network.id[:ID_LENGTH]}"


def is_annex(bridge: str) -> bool:
    return bridge.startswith(BRIDGE_PREFIX) and "-" in bridge[len(BRIDGE_PREFIX) :]


def annex_of(network: NetworkID, bridge: str) -> int:
    """Which annex of a network a bridge is; 0 of one that is none."""
    start = f"{BRIDGE_PREFIX}{network[:_ID_OF_AN_ANNEX_LENGTH]}-"
    number = bridge.removeprefix(start)
    return int(number) if bridge.startswith(start) and number.isdecimal() else 0


def upper_end(network: Network, annex: int) -> str:
    return upper_end_of(bridge(network, annex))


def upper_end_of(annex: str) -> str:
    """By the annex's name."""
    return f"{UPPER_END_PREFIX}{annex.removeprefix(BRIDGE_PREFIX)}"


def lower_end(network: Network, annex: int) -> str:
    return f"{LOWER_END_PREFIX}{_of_annex(network, annex)}"


def _of_annex(network: Network, annex: int) -> str:
    return f"{network.id[:_ID_OF_AN_ANNEX_LENGTH]}-{annex}"


def host_end(endpoint: EndpointID) -> str:
    return f"{HOST_END_PREFIX}{endpoint[:ID_LENGTH]}"


def sandbox_end(endpoint: EndpointID) -> str:
    return f"{SANDBOX_END_PREFIX}{endpoint[:ID_LENGTH]}"


def tunnel(network: Network) -> str:
    return f"{TUNNEL_PREFIX}{network.id[:ID_LENGTH]}"


def own_end(network: Network) -> str:
    return f"{OWN_END_PREFIX}{network.id[:ID_LENGTH]}"


def inner_end(network: Network) -> str:
    return f"{INNER_END_PREFIX}{network.id[:ID_LENGTH]}"


def network_alias(network: NetworkID) -> str:
    return f"mdnp network {network}"


def annex_alias(network: NetworkID, annex: int) -> str:
    return f"mdnp annex {annex} of network {network}"


def joint_alias(network: NetworkID, annex: int) -> str:
    return f"mdnp joint of annex {annex} of network {network}"


def tunnel_alias(network: NetworkID) -> str:
    return f"mdnp tunnel of network {network}"


def own_alias(network: NetworkID) -> str:
    return f"mdnp host in network {network}"


def endpoint_alias(endpoint: EndpointID) -> str:
    return f"mdnp endpoint {endpoint}"
