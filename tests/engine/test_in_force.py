"""What others do to the firewall: ours is soon as it should be, theirs is never touched, nothing is left in the end."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from rig.command import RigError
from rig.host import Namespace
from tests.engine.conftest import Story
from tests.engine.peers import Peers

pytestmark = pytest.mark.engine

_PROGRAMS = ("iptables", "ip6tables")
_TABLES = ("inet", "bridge")
_SOON_S = 2.0
_ACCEPT = "-m comment --comment mdnp -j ACCEPT"


def _networks(story: Story) -> None:
    """One bridge with a name of ours, one with the user's; a container with published ports of both families."""
    story.network("mynet", "--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
    story.network("named", "-o", "com.docker.network.bridge.name=lab0", "--subnet=10.78.0.0/24")
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp", "--restart=always")


def _sh(story: Story, command: str) -> str:
    return story.testbed.host.run(["sh", "-c", command]).out


def _chain(story: Story, program: str) -> list[str] | None:
    """The rules that Docker's chain has, in their order; None without the chain."""
    result = story.testbed.host.run([program, "-S", "DOCKER-USER"], check=False)
    return [line for line in result.out.splitlines() if line.startswith("-A")] if result.code == 0 else None


def _rules(story: Story) -> list[str]:
    """Those of ours, sorted, with repetitions."""
    return sorted(f"{one} {rule}" for one in _PROGRAMS for rule in _chain(story, one) or () if _ACCEPT in rule)


def _needed(story: Story, *bridges: str) -> list[str]:
    """The rules that should be there."""
    families = [program for program in _PROGRAMS if _chain(story, program) is not None]
    rules = [f"-A DOCKER-USER -{way} {bridge} {_ACCEPT}" for bridge in bridges for way in "io"]
    return sorted(f"{program} {rule}" for program in families for rule in rules)


def _tables(story: Story) -> list[Any]:
    """Our tables, without what changes by itself; empty lists if there are none."""
    listed = [_nft(story, "list", "table", family, "mdnp") for family in _TABLES]
    return [_still(json.loads(text)["nftables"]) if text else [] for text in listed]


def _nft(story: Story, *command: str) -> str:
    return story.testbed.host.run(["nft", "-j", *command], check=False).out


def _still(value: Any, key: str = "") -> Any:
    """Without handles and counters, and elements sorted: the kernel keeps them in an order of its own."""
    if isinstance(value, dict):
        if value.keys() == {"elem"}:  # an element with a counter
            return _still(value["elem"]["val"])
        return {name: _still(one, name) for name, one in value.items() if name not in ("handle", "packets", "bytes")}
    if isinstance(value, list):
        items = [_still(item) for item in value]
        return sorted(items, key=json.dumps) if key == "elem" else items
    return value


def _elements(story: Story) -> list[dict[str, Any]]:
    """One element of each of our sets and maps that has any, as nft's JSON names it."""
    named = [one for table in _tables(story) for row in table for one in row.values() if "elem" in one]
    return [{**{key: one[key] for key in ("family", "table", "name")}, "elem": one["elem"][:1]} for one in named]


def _delete(story: Story, elements: Sequence[dict[str, Any]]) -> None:
    commands = [{"delete": {"element": element}} for element in elements]
    story.testbed.host.run(["nft", "-j", "-f", "-"], feed=json.dumps({"nftables": commands}).encode())


def _last_rule(story: Story, chain: str) -> str:
    """Its handle."""
    rows = json.loads(_nft(story, "-a", "list", "chain", "inet", "mdnp", chain))["nftables"]
    return str([row["rule"]["handle"] for row in rows if "rule" in row][-1])


def _broken(story: Story, peers: Peers) -> dict[str, str]:
    """Ways that do not work: from the world to a published port, and from the container to the world."""
    host = story.testbed.host
    asked: dict[str | Namespace, tuple[str, ...]] = {
        story.testbed.outside: (f"tcp:{host.address.ip}:8080", f"udp:[{host.address6.ip}]:8080"),
        "web": ("tcp:192.0.2.1:7000", "udp:[2001:db8::1]:7000"),
    }
    answers = {
        target: answer
        for place, targets in asked.items()
        for target, answer in zip(targets, peers.ask(place, *targets, within_s=1), strict=True)
    }
    return {target: answer for target, answer in answers.items() if " sees " not in answer}


def _serve(story: Story, peers: Peers) -> None:
    peers.serve("web", 80)
    peers.serve(story.testbed.outside, 7000, name="outside")
    story.soon(lambda: not _broken(story, peers))


def _soon(story: Story, holds: Callable[[], bool]) -> bool:
    try:
        story.soon(holds, _SOON_S)
    except RigError:
        return False
    return True


def _changes(story: Story) -> dict[str, Callable[[], object]]:
    """What others may do to what is ours, all of it undone afterwards."""
    accept = f"-i mdb-+ {_ACCEPT}"
    elements = _elements(story)
    assert len(elements) > 10
    commands = {
        "delete our table of family inet": "nft delete table inet mdnp",
        "delete our table of family bridge": "nft delete table bridge mdnp",
        "delete both our tables": "nft delete table inet mdnp; nft delete table bridge mdnp",
        "flush the rules of our table": "nft flush table inet mdnp",
        "insert a rule in a chain of ours": "nft insert rule inet mdnp forward drop",
        "add a chain": "nft add chain inet mdnp other '{ type filter hook forward priority 0; policy drop; }'",
        "add an element": "nft add element inet mdnp bridges '{ \"nobody0\" }'",
        "flush Docker's chain": "iptables -F DOCKER-USER",
        "delete our rule from Docker's chain": f"iptables -D DOCKER-USER {accept}",
        "repeat our rule in Docker's chain": f"iptables -A DOCKER-USER {accept}",
        "add a rule for a bridge that is gone": f"iptables -I DOCKER-USER -i gone0 {_ACCEPT}",
        "reload rules that were saved without ours": "iptables-save | grep -v 'comment mdnp' | iptables-restore",
    }
    return {
        **{what: partial(_sh, story, command) for what, command in commands.items()},
        "delete a rule": lambda: _sh(story, f"nft delete rule inet mdnp forward handle {_last_rule(story, 'forward')}"),
        "delete an element": lambda: _delete(story, elements[:1]),
        "delete an element of each set": lambda: _delete(story, elements),
    }


def test_what_others_change_of_ours_is_undone_within_two_seconds_and_counted(story: Story) -> None:
    _networks(story)
    tables, rules = _tables(story), _needed(story, "mdb-+", "lab0")
    assert _rules(story) == rules

    with Peers(story.testbed) as peers:
        _serve(story, peers)
        for what, change in _changes(story).items():
            before = story.status()["repaired"]
            change()
            assert _soon(story, lambda: _tables(story) == tables), what
            assert _soon(story, lambda: _rules(story) == rules), f"{what}: {_rules(story)}"
            assert story.status()["repaired"] > before, what
            assert _broken(story, peers) == {}, what
        story.plugin.stop()
        _sh(story, "nft delete table inet mdnp; nft delete table bridge mdnp; iptables -F DOCKER-USER")
        story.plugin.start()
        assert (_tables(story), _rules(story)) == (tables, rules), "while the daemon was away"
        assert _broken(story, peers) == {}, "while the daemon was away"
    assert story.status()["healthy"]


@pytest.fixture
def drop(story: Story) -> Iterator[Callable[[], object]]:
    """
    FORWARD's policy is DROP, as an engine leaves it that finds forwarding off when it starts, for IPv6 from 28 on.

    It is so again when it is called, and afterwards; then the engine has all its own rules again.
    """
    programs = [program for program in _PROGRAMS if _chain(story, program) is not None]

    def drop() -> None:
        _sh(story, "; ".join(f"{program} -P FORWARD DROP" for program in programs))

    drop()
    yield drop
    if "-A FORWARD -j DOCKER-USER" not in _sh(story, "iptables -S FORWARD").splitlines():
        story.engine.restart()
        drop()


def test_after_a_flush_of_all_rules_all_works_and_an_engine_that_restarts_is_joined(
    story: Story, drop: Callable[[], object]
) -> None:
    """The flush takes Docker's chains too: our own tables do without them until the engine makes them again."""
    _networks(story)
    tables, rules = _tables(story), _needed(story, "mdb-+", "lab0")
    with Peers(story.testbed) as peers:
        _serve(story, peers)
        before = story.status()["repaired"]

        _sh(story, "nft flush ruleset")

        assert _soon(story, lambda: _tables(story) == tables)
        assert _broken(story, peers) == {}
        assert story.status()["repaired"] > before
    story.engine.restart()
    drop()

    assert _soon(story, lambda: _rules(story) == rules)
    story.soon(lambda: story.docker("inspect", "--format={{.State.Running}}", "web") == "true", 20)
    with Peers(story.testbed) as peers:
        _serve(story, peers)


@pytest.mark.usefixtures("drop")
def test_after_a_flush_of_iptables_all_works(story: Story) -> None:
    """Nothing jumps to Docker's chain any more."""
    _networks(story)
    rules = _needed(story, "mdb-+", "lab0")
    with Peers(story.testbed) as peers:
        _serve(story, peers)
        before = story.status()["repaired"]

        _sh(story, "iptables -F; ip6tables -F")

        assert _soon(story, lambda: set(rules) <= set(_rules(story)))
        assert _broken(story, peers) == {}
        assert story.status()["repaired"] > before


_OPERATOR = """
add table inet operator
add chain inet operator forward { type filter hook forward priority 0; policy accept; }
add rule inet operator forward ip saddr 203.0.113.9 drop
add set inet operator mdnp { type ipv4_addr; }
add element inet operator mdnp { 203.0.113.10 }
add table ip mdnp
add chain ip mdnp forward { type filter hook forward priority 0; policy accept; }
"""


def test_what_is_another_s_is_never_touched(story: Story) -> None:
    """Rules of the operator's in Docker's chain, and tables that look like ours, whatever happens to ours."""
    _sh(story, "iptables -I DOCKER-USER -s 203.0.113.9 -j DROP")
    _sh(story, "iptables -I DOCKER-USER -s 203.0.113.8 -m comment --comment 'not mdnp' -j DROP")
    story.testbed.host.run(["nft", "-f", "-"], feed=_OPERATOR.encode())
    try:
        theirs = _of_others(story)
        assert "operator" in theirs
        assert "203.0.113.8" in theirs
        _networks(story)
        assert _of_others(story) == theirs
        _sh(story, "iptables -I DOCKER-USER -s 203.0.113.7 -j DROP")  # later, so it stands above ours
        theirs = _of_others(story)
        top = (_chain(story, "iptables") or [""])[0]
        for act in (lambda: _sh(story, "nft delete table inet mdnp"), story.plugin.restart):
            tables = _tables(story)
            act()
            assert _soon(story, lambda expected=tables: _tables(story) == expected)  # type: ignore[misc]
            assert _of_others(story) == theirs
            assert (_chain(story, "iptables") or [""])[0] == top
        story.engine.clear()
        assert (_of_others(story), _rules(story), _tables(story)) == (theirs, [], [[], []])
    finally:
        _sh(story, "nft delete table inet operator; nft delete table ip mdnp")
        _sh(
            story,
            "for one in 7 8 9; do iptables -S DOCKER-USER | grep 203.0.113.$one | sed s/-A/-D/ | xargs iptables; done",
        )


def _of_others(story: Story) -> str:
    """All rules of the host but ours, as they are saved and listed."""
    saved = [_sh(story, f"{program}-save") for program in _PROGRAMS]
    lines = [line for text in saved for line in text.splitlines() if "--comment mdnp " not in line]
    kept = [re.sub(r" \[\d+:\d+\]", "", line) for line in lines if not line.startswith("#")]
    listed = _still(json.loads(_nft(story, "list", "ruleset"))["nftables"])
    tables = [row for row in listed if not _is_ours(row) and not _is_iptables(row)]
    return "\n".join([*kept, *map(json.dumps, tables)])


def _is_ours(row: dict[str, dict[str, Any]]) -> bool:
    [(kind, one)] = row.items()
    return one.get("family") in _TABLES and one.get("name" if kind == "table" else "table") == "mdnp"


def _is_iptables(row: dict[str, dict[str, Any]]) -> bool:
    """Their rules are seen with iptables-save; nft says of some that they are `xt`, and no more."""
    [(kind, one)] = row.items()
    names = ("filter", "nat", "mangle", "raw", "security")
    return one.get("family") in ("ip", "ip6") and one.get("name" if kind == "table" else "table") in names


def test_after_the_last_network_all_is_as_it_was_before_the_first(story: Story) -> None:
    before = _of_others(story)
    host = story.testbed.host
    assert (_rules(story), _tables(story)) == ([], [[], []])
    for restarted in (False, True):
        _networks(story)
        story.network("only4", "--subnet=10.79.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false")
        story.container("db1", "-p", "127.0.0.1:8081:80", "-p", "8082-8089:81", "--expose=82", "-P", network="only4")
        story.container("alone", network="named")
        ports = {(one["protocol"], one["host_port"]) for one in json.loads(story.plugin.cli("port", "ls", "--json"))}
        assert len(ports) == 5
        if restarted:
            story.plugin.restart()

        story.docker("network", "disconnect", "only4", "db1")
        story.docker("rm", "-f", "web", "db1", "alone")
        story.docker("network", "rm", "mynet", "named")
        assert _rules(story) == _needed(story, "mdb-+")
        story.docker("network", "rm", "only4")

        assert _of_others(story) == before
        assert (_rules(story), _tables(story)) == ([], [[], []])
        with Peers(story.testbed) as peers:
            wanted = [f"{name}:{every}:{port}" for name, port in sorted(ports) for every in ("", "[::]")]
            assert peers.free(host, *wanted) == ["free"] * len(wanted)
