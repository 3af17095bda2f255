"""
The names and marks of what is ours in the kernel, each with the reason for its value.

A link name has at most 15 bytes (IFNAMSIZ less the final zero): four of prefix and eleven of Docker's id, which is
44 bits of a random number. A prefix says the kind, so that `ip link` reads like a list of what there is.
"""

from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import Network

ID_LENGTH = 11

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
PREFIXES = (BRIDGE_PREFIX, HOST_END_PREFIX, SANDBOX_END_PREFIX, TUNNEL_PREFIX, OWN_END_PREFIX, INNER_END_PREFIX)

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


def bridge(network: Network) -> str:
    return network.options.bridge_name or f"{BRIDGE_PREFIX}{network.id[:ID_LENGTH]}"


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


def tunnel_alias(network: NetworkID) -> str:
    return f"mdnp tunnel of network {network}"


def own_alias(network: NetworkID) -> str:
    return f"mdnp host in network {network}"


def endpoint_alias(endpoint: EndpointID) -> str:
    return f"mdnp endpoint {endpoint}"
