"""
What Docker and its users do to a daemon: every verb, and every point of each.

A story is short, since each case walks through one from its beginning to the call that is under test. An act is what
a user does; when it failed, the user does it again. At the end of each story everything is removed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mdnp.model.options import ICC
from tests.faults.commons import SEGMENT
from tests.faults.docker import Docker
from tests.faults.session import Refused
from tests.world import UDP, binding

SHARED4, SHARED6 = SEGMENT.split(",")
OVERLAY = {"mdnp.mode": "overlay"}
POOL4, POOL6 = "10.1.0.0/24", "fd00:1::/64"
PORTS = (binding(80, 8080), binding(81))
DATAGRAMS = binding(53, 5353, proto=UDP)
ALLOW = "192.0.2.0/24,2001:db8::/64"


@dataclass(frozen=True)
class Act:
    """`again` says that a user does it once more when it failed; of the others nothing is expected then."""

    name: str
    do: Callable[[Docker], None]
    again: bool = True


def _front(docker: Docker) -> None:
    docker.create_network("front", POOL4, POOL6)


def _small(docker: Docker) -> None:
    docker.create_network("small", POOL4)


def _refused(act: Callable[[Docker], None]) -> Callable[[Docker], None]:
    """It cannot be, with or without a fault."""

    def attempt(docker: Docker) -> None:
        try:
            act(docker)
        except Refused:
            return
        raise AssertionError("what cannot be was answered with success")

    return attempt


FRONT = Act("create a network of both families", _front)
SMALL = Act("create a network", _small)
REMOVE_ALL = Act("remove everything", Docker.remove_all, again=False)

# On a host whose firewall Docker programs with iptables. The others have no iptables, whose programs take more of a
# case's time than all the rest.
WITH_IPTABLES = ("firewall",)
# On a host of a cluster, whose member does things beside the calls.
WITH_CLUSTER = ("segments", "overlay")

STORIES: Mapping[str, Sequence[Act]] = {
    "engine": (
        Act("start the engine", Docker.activate),
        Act("talk of swarm", Docker.talk_of_swarm),
    ),
    "firewall": (
        SMALL,
        Act("reboot the host", Docker.reboot, again=False),
    ),
    "networks": (
        Act("create a network with a reserved address", lambda docker: docker.create_network(
            "front", POOL4, POOL6, auxiliary="10.1.0.9"
        )),
        Act("create an internal one of any subnet", lambda docker: docker.create_network(
            "back", "", internal=True, options={ICC: "false"}
        )),
        Act("create one of the same subnet", _refused(lambda docker: docker.create_network("copy", POOL4)),
            again=False),
        Act("run a container on the internal one", lambda docker: docker.run("db", "back")),
    ),
    "containers": (
        FRONT,
        Act("run one with ports", lambda docker: docker.run("web", "front", ports=PORTS, allow=ALLOW)),
        Act("let another network be its way out for a while", lambda docker: docker.switch_way_out("web"), again=False),
        Act("stop it", lambda docker: docker.stop("web"), again=False),
    ),
    "restored": (
        FRONT,
        Act("run one with ports", lambda docker: docker.run("web", "front", ports=PORTS)),
        Act("stop it without a revocation", lambda docker: docker.stop("web", revoke=False), again=False),
    ),
    "crashed": (
        SMALL,
        Act("run one with ports", lambda docker: docker.run("web", "small", ports=(*PORTS, DATAGRAMS))),
        Act("stop it, its sandbox is gone", lambda docker: docker.stop("web", revoke=False, leave=False), again=False),
    ),
    "rejoined": (
        SMALL,
        Act("run one", lambda docker: docker.run("web", "small", ip="10.1.0.7")),
        Act("let it leave and join", lambda docker: docker.leave_and_join("web"), again=False),
    ),
    "taken": (
        SMALL,
        Act("run one with a port", lambda docker: docker.run("web", "small", ip="10.1.0.7", ports=PORTS[:1])),
        Act("run one with its address", _refused(lambda docker: docker.run("db", "small", ip="10.1.0.7")), again=False),
        Act("run one with its port", _refused(lambda docker: docker.run("db", "small", ports=PORTS[:1])), again=False),
    ),
    "reboot": (
        FRONT,
        Act("run one while the host is rebooted", lambda docker: docker.run(
            "web", "front", meanwhile=docker.reboot
        )),
    ),
    "replaced": (
        SMALL,
        Act("run one with ports", lambda docker: docker.run("web", "small", ports=PORTS)),
        Act("kill the engine, which runs it anew", lambda docker: docker.run_anew("web"), again=False),
    ),
    "forgotten": (
        SMALL,
        Act("run one with ports", lambda docker: docker.run("ghost", "small", ports=PORTS)),
        Act("lose it", lambda docker: docker.forget("ghost")),
        Act("remove its network", lambda docker: docker.remove_network("small"), again=False),
    ),
    "litter": (
        SMALL,
        Act("restart the daemon over what one left", Docker.restart_over_litter, again=False),
    ),
    "segments": (
        Act("create an overlay that no other host has", lambda docker: docker.create_network(
            "alone", "10.60.0.0/24", options=OVERLAY, auxiliary="10.60.0.9"
        )),
        Act("create one that other hosts have otherwise", _refused(lambda docker: docker.create_network(
            "blue", SHARED4, SHARED6, options={**OVERLAY, "mdnp.segment": "green"}
        )), again=False),
    ),
    "overlay": (
        Act("create an overlay that another host has", lambda docker: docker.create_network(
            "blue", SHARED4, SHARED6, options=OVERLAY
        )),
        Act("run one with an address of no block of ours", lambda docker: docker.run(
            "web", "blue", ip="10.50.200.1", ports=PORTS[:1]
        )),
        Act("run one", lambda docker: docker.run("db", "blue")),
        Act("restart the daemon over what was told once", lambda docker: docker.restart_over_rows("blue"),
            again=False),
        Act("stop one", lambda docker: docker.stop("db"), again=False),
    ),
    "orphans": (
        SMALL,
        Act("run one with a port", lambda docker: docker.run("ghost", "small", ports=PORTS[:1])),
        Act("lose it", lambda docker: docker.forget("ghost")),
        Act("collect what is nobody's", Docker.collect),
    ),
}  # fmt: skip
