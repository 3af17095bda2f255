"""A catalogue that followed changes is as one made anew, whatever happened in which order."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns import Answer, Kind, Question
from mdnp.dns.catalogue import Catalogue
from mdnp.model.endpoint import Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called, Names
from mdnp.model.options import Mode, NetworkOptions
from mdnp.store import Promises
from tests.dns.test_catalogue import BLUE, RED, Others, a_remote
from tests.world import NET, OTHER_NET, a_network, an_endpoint

BRIDGE_ID = "e5" * 32
NETWORKS = [BLUE, RED, a_network(BRIDGE_ID, "10.70.0.0/16", options=NetworkOptions(dns=True))]
UNNAMED = replace(RED, options=NetworkOptions(mode=Mode.OVERLAY, dns=False))
ENDPOINTS = [f"{number}" * 64 for number in range(3)]
SANDBOXES = ["/s/1", "/s/2"]
NAMES = ["web", "db", "a.web"]
ENDS = ["", ".blue", ".red", ".blue.mdnp", ".bridge.mdnp"]
ADDRESSES = [
    ip_address(f"10.{network}.{host}.{last}") for network in (50, 60, 70) for host in (0, 1) for last in (2, 3, 4)
]
QUESTIONS = [
    *(Question(f"{name}{end}", Kind.A) for name in NAMES for end in ENDS),
    *(Question(address.reverse_pointer, Kind.PTR) for address in ADDRESSES),
]


class Host:
    """What a host promised and knows, changed in place as a store changes it."""

    def __init__(self) -> None:
        self.networks: dict[NetworkID, Any] = {}
        self.endpoints: dict[EndpointID, Any] = {}
        self.called: dict[str, Called] = {}
        self.others = Others()
        promises = Promises(self.networks, self.endpoints, {}, {}, self.called)
        self.store: Any = SimpleNamespace(promises=promises)

    def catalogue(self) -> Catalogue:
        return Catalogue(self.store, self.others)

    def have(self, number: int, present: bool, named: bool) -> None:
        network = NETWORKS[number]
        if network.id == OTHER_NET and not named:
            network = UNNAMED
        if present:
            self.networks[network.id] = network
            return
        self.networks.pop(network.id, None)
        for key in [key for key, one in self.endpoints.items() if one.network_id == network.id]:
            del self.endpoints[key]

    def attach(self, number: int, network: int, address: int, phase: Phase, sandbox: str) -> None:
        on = NETWORKS[network]
        if on.id in self.networks:
            held = f"10.{50 + 10 * network}.0.{address}/16"
            one = an_endpoint(ENDPOINTS[number], held, network=on.id, phase=phase, sandbox=sandbox)
            self.endpoints[one.id] = one

    def detach(self, number: int) -> None:
        self.endpoints.pop(EndpointID(ENDPOINTS[number]), None)

    def call(self, identity: str, name: str | None) -> None:
        if name is None:
            self.called.pop(identity, None)
        else:
            self.called[identity] = Called(identity, Names(name))

    def hear(self, network: int, number: int, name: str | None, present: bool) -> list[Any]:
        """Of an overlay's remotes; whose changes are to be followed."""
        subnet = f"10.{50 + 10 * network}.0.0/16"
        one = a_remote(name, f"10.{50 + 10 * network}.1.{number + 2}", subnet, f"e{number}")
        if present:
            self.others.remotes[one.id] = one
        else:
            self.others.remotes.pop(one.id, None)
        return [one.id]


numbers = st.integers(0, 2)
called = st.sampled_from([None, *NAMES])
changes = st.one_of(
    st.tuples(st.just("have"), numbers, st.booleans(), st.booleans()),
    st.tuples(
        st.just("attach"),
        numbers,
        numbers,
        st.integers(2, 4),
        st.sampled_from(Phase),
        st.sampled_from(["", *SANDBOXES]),
    ),
    st.tuples(st.just("detach"), numbers),
    st.tuples(st.just("call"), st.sampled_from(ENDPOINTS), called),
    st.tuples(st.just("call"), st.just(NET), st.sampled_from([None, "blue"])),
    st.tuples(st.just("call"), st.just(OTHER_NET), st.sampled_from([None, "red"])),
    st.tuples(st.just("call"), st.just(BRIDGE_ID), st.sampled_from([None, "bridge"])),
    st.tuples(st.just("hear"), st.integers(0, 1), numbers, called, st.booleans()),
)
start = [("have", number, True, True) for number in range(3)]
start += [("call", NET, "blue"), ("call", OTHER_NET, "red")]  # type: ignore[list-item]  # another change


@given(st.lists(changes, max_size=12))
def test_it_is_as_one_made_anew(story: list[tuple[Any, ...]]) -> None:
    host = Host()
    followed = host.catalogue()
    for verb, *given_ in [*start, *story]:
        touched = getattr(host, verb)(*given_)
        if touched:
            followed.follow(touched)
        else:
            followed.refresh()
    anew = host.catalogue()
    anew.refresh()
    assert shown(followed) == shown(anew)


def shown(catalogue: Catalogue) -> Sequence[object]:
    finders = [*map(catalogue.of_sandbox, SANDBOXES), catalogue.everywhere()]
    places = [(NetworkID(NET), ip_address(f"10.50.0.{last}")) for last in range(2, 5)]
    return [
        [unordered(finder.find(question)) for finder in finders for question in QUESTIONS],
        {path: dict(inside) for path, inside in catalogue.sandboxes().items()},
        [catalogue.of_address(*place) is None for place in places],
    ]


def unordered(answer: Answer | None) -> object:
    return answer and (frozenset(answer.records), answer.exists, answer.left)
