"""The checks of names by values: a host that is well, and what is found when one fact of it is another."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from mdnp.doctor import Daemon, Facts, Unknown
from mdnp.doctor.checks import judge
from tests.doctor.wards import DAEMON, ENDPOINT, NETWORK, STATUS, WELL, found

NAMES: dict[str, Any] = {
    "sandboxes": 1,
    "failed": [],
    "gateways": [{"name": "10.1.0.1 on mdb-1", "trouble": ""}],
    "host": {"name": "127.0.0.153", "trouble": ""},
    "learned": 1,
    "unlearned": 0,
    "trouble": "",
    "resolvers": ["192.0.2.53"],
    "unresolved": "",
    "questions": {},
}
SANDBOX = "/run/docker/netns/1"
FAILED = {"failed": [{"sandbox": SANDBOX, "trouble": "no room"}]}
NAMED = replace(
    WELL,
    daemon=replace(
        DAEMON,
        status={**STATUS, "names": NAMES},
        networks=[{**NETWORK, "name": "blue", "dns": True}],
        endpoints=[{**ENDPOINT, "sandbox": SANDBOX, "container": "web"}],
        settings={**DAEMON.settings, "host_dns": "127.0.0.153"},
    ),
    resolvers=("127.0.0.153", "192.0.2.53"),
    features={**WELL.features, "nft-owner": ""},  # type: ignore[dict-item]
)


def daemon(facts: Facts = NAMED) -> Daemon:
    assert isinstance(facts.daemon, Daemon)
    return facts.daemon


def telling(**changes: Any) -> Facts:
    return replace(NAMED, daemon=replace(daemon(), status={**STATUS, "names": {**NAMES, **changes}}))


def set_to(address: str, facts: Facts = NAMED) -> Facts:
    """Only in the daemon's settings, without a word of it on how it stands."""
    status = {**STATUS, "names": {**NAMES, "host": None}}
    settings = {**DAEMON.settings, "host_dns": address}
    return replace(facts, daemon=replace(daemon(), status=status, settings=settings))


def test_a_host_with_names_that_is_well_has_no_finding() -> None:
    assert found(NAMED) == {}


def test_a_host_without_names_has_nothing_to_look_at() -> None:
    reports = {one.name: one for one in judge(WELL, ("names-road", "names-learned", "names-upstream", "names-host"))}

    assert {one.findings[0].what for name, one in reports.items() if name != "names-host"} == {
        "no network here has names"
    }
    assert reports["names-host"].findings[0].what == "off: this host itself does not ask"


@pytest.mark.parametrize(
    ("facts", "check", "says"),
    [
        (telling(**FAILED), "names-road", "trouble: web cannot ask for names of its networks: no room"),
        (
            telling(failed=[{"sandbox": "/x", "trouble": "no room"}]),
            "names-road",
            "trouble: /x cannot ask for names of its networks: no room",
        ),
        (
            replace(NAMED, features={"veth": "", "nft-owner": "Operation not supported"}),
            "names-road",
            "trouble: nft-owner: Operation not supported",
        ),
        (
            telling(gateways=[{"name": "10.1.0.1 on mdb-1", "trouble": "no link"}]),
            "names-gateway",
            "warning: nobody answers names at 10.1.0.1 on mdb-1: no link",
        ),
        (telling(trouble="no answer"), "names-learned", "warning: containers' names are not learned: no answer"),
        (telling(unresolved="no server"), "names-upstream", "warning: nobody is asked for names of the outside: no se"),
        (
            telling(host={"name": "127.0.0.153", "trouble": "taken"}),
            "names-host",
            "trouble: nobody answers names at host_dns 127.0.0.153: taken",
        ),
        (
            replace(NAMED, resolvers=("192.0.2.53",)),
            "names-host",
            "warning: host_dns is 127.0.0.153, and this host's resolver does not ask there",
        ),
        (
            replace(NAMED, resolvers=("127.0.0.53",), asked=frozenset({("3500007F", 53)})),
            "names-host",
            "warning: host_dns is 127.0.0.153, and this host's resolver does not ask there",
        ),
        (set_to("127.0.0.153"), "names-host", "trouble: nobody answers names at host_dns 127.0.0.153: nobody listens"),
    ],
)
def test_one_fact_that_is_another_is_found_by_its_check_alone(facts: Facts, check: str, says: str) -> None:
    spoilt = found(facts)

    assert list(spoilt) == [check]
    assert spoilt[check].startswith(says)


@pytest.mark.parametrize(
    "facts",
    [
        telling(unlearned=3),
        replace(NAMED, resolvers=("127.0.0.53",), resolved=("127.0.0.153",), asked=frozenset({("3500007F", 53)})),
        set_to("127.0.0.153", replace(NAMED, asked=frozenset({("9900007F", 53)}))),
        set_to("::1", replace(NAMED, resolvers=("::1", "192.0.2.1"), asked=frozenset({(24 * "0" + "01000000", 53)}))),
    ],
)
def test_what_may_be_so_is_no_finding(facts: Facts) -> None:
    assert found(facts) == {}


def test_without_the_daemon_the_host_s_own_address_is_looked_at_all_the_same() -> None:
    settings = replace(WELL.settings, host_dns=ip_address("127.0.0.153"))
    facts = replace(NAMED, daemon=Unknown("gone"), settings=settings)

    [host] = judge(facts, ("names-host",))
    [road] = judge(facts, ("names-road",))

    assert host.findings[0].what.endswith("nobody listens there")
    assert road.findings[0].what == "could not be looked at: gone"
