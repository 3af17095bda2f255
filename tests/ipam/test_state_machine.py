"""
The daemon over its socket against a plain model, in any order, while it is stopped, killed and started.

IPAM_OPERATIONS runs longer than the usual 3000, IPAM_SEED along another way.
"""

import os
import tempfile
import time
from collections import Counter
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.ipam.daemon import Daemon, Gone
from tests.ipam.house import GATEWAY, named, request_address, request_pool
from tests.ipam.plain import Answer, Op, Plain, identity_of

pytestmark = pytest.mark.root

OPERATIONS = int(os.environ.get("IPAM_OPERATIONS", "3000"))
SEED = int(os.environ.get("IPAM_SEED", "1"))
STEPS = 30  # in the life of a state folder
OF_ONE = 150  # operations in those steps, about
LIFE = 40  # operations between two restarts, at least
WORLDS = 20  # that may be true at once, before nothing more is left open

AUTOMATIC = "198.18.7.0/26"
POOLS = ("10.1.0.0/29", "10.2.0.0/28", "10.2.0.0/28 10.2.0.4/30", "10.2.0.0/27", "fd00:1::/124")
FIRST = (POOLS[0], POOLS[2], POOLS[4])
VERBS = {
    "pool": "RequestPool",
    "automatic": "RequestPool",
    "end": "ReleasePool",
    "release": "ReleaseAddress",
    "next": "RequestAddress",
    "claim": "RequestAddress",
    "gateway": "RequestAddress",
}

texts = st.sampled_from(POOLS)
usual = [identity_of(one) for one in FIRST]
identities = st.sampled_from([*map(identity_of, POOLS), identity_of("198.18.7.0/28"), identity_of("198.18.7.16/28")])
names = st.sampled_from(["", "", "web", "db", "cache"])
numbers = st.integers(0, 17)  # of addresses in a pool's network; beyond a /28 they are outside
moments = st.sampled_from([0.0, 0.0003, 0.001, 0.002])  # seconds, about as long as a call takes
which = st.integers(0, 100)

often = {"next": 6, "claim": 3, "release": 2, "held": 5, "pool": 2, "end": 1, "gateway": 1, "automatic": 1}
kinds = st.sampled_from([kind for kind, times in often.items() for _ in range(times)])


@st.composite
def calls(draw: st.DrawFn) -> Op | int:
    """A call, or which of the addresses that are held is released."""
    kind = draw(kinds)
    if kind == "held":
        return draw(which)
    if kind == "automatic":
        return Op(kind)
    if kind == "pool":
        return Op(kind, draw(texts))
    if kind == "next":
        return Op(kind, draw(st.sampled_from(usual * 4) | identities), name=draw(names))
    pool = draw(identities)
    if kind == "end" or (kind == "gateway" and draw(st.booleans())):
        return Op(kind, pool)
    return Op(kind, pool, address_in(pool, draw(numbers)), draw(names) if kind == "claim" else "")


class AgainstPlain(RuleBasedStateMachine):
    """`worlds` are the models that fit all that was answered: more than one after a call that nobody answered."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="mdnp-")
        self.daemon = Daemon(Path(self.folder.name), MDNP_ADDRESS_POOLS=f"base={AUTOMATIC},size=28")
        self.worlds = [Plain(AUTOMATIC, 28)]
        self.life = 0
        self.daemon.start()

    @initialize(pools=st.sets(st.sampled_from(FIRST), min_size=1))
    def begin(self, pools: set[str]) -> None:
        for pool in sorted(pools):
            self.told(Op("pool", pool))

    @rule(some=st.lists(calls(), min_size=10, max_size=20))
    def calls(self, some: list[Op | int]) -> None:
        for one in some:
            op = self.release_of(one) if isinstance(one, int) else one
            if op:
                self.told(op)

    @rule()
    def what_is_shown(self) -> None:
        """It leaves only the models that agree."""
        seen = {}
        for pool in self.daemon.shown("/pool"):
            rows = self.daemon.shown(f"/pool/{pool['id']}")["addresses"]
            seen[pool["id"]] = (pool["networks"], {row["address"]: (row["kind"], row["name"]) for row in rows})
        fitting = [world for world in self.worlds if world.shown == seen]
        assert fitting, f"shown: {seen}\npossible: {[world.shown for world in self.worlds]}"
        self.worlds = fitting

    @precondition(lambda self: self.life >= LIFE)
    @rule()
    def a_restart(self) -> None:
        assert self.daemon.stop() == 0
        self.restarted("stopped")

    @precondition(lambda self: self.life >= LIFE)
    @rule(moment=moments, pool=identities, name=names)
    def a_restart_while_an_address_is_asked_for(self, moment: float, pool: str, name: str) -> None:
        """Who was heard is answered."""
        op = Op("next", pool, name=name)
        self.daemon.send(*call_of(op))
        time.sleep(moment)
        self.daemon.ask_to_stop()
        self.answered(op, *self.daemon.answer())
        assert self.daemon.stop() == 0
        self.restarted("stopped in a call")

    @precondition(lambda self: self.life >= LIFE)
    @rule()
    def a_death(self) -> None:
        self.daemon.kill()
        self.restarted("killed")

    @precondition(lambda self: self.life >= LIFE and len(self.worlds) < WORLDS)
    @rule(moment=moments, pool=identities, name=names)
    def a_death_while_an_address_is_asked_for(self, moment: float, pool: str, name: str) -> None:
        self.died_in(Op("next", pool, name=name), moment)

    @precondition(lambda self: self.life >= LIFE and len(self.worlds) < WORLDS)
    @rule(moment=moments, number=which)
    def a_death_while_an_address_is_released(self, moment: float, number: int) -> None:
        op = self.release_of(number)
        if op:
            self.died_in(op, moment)

    @precondition(lambda self: self.life >= LIFE and len(self.worlds) < WORLDS)
    @rule(moment=moments, verb=st.sampled_from(["pool", "end"]), pool=texts)
    def a_death_while_a_pool_comes_or_goes(self, moment: float, verb: str, pool: str) -> None:
        self.died_in(Op(verb, pool if verb == "pool" else identity_of(pool)), moment)

    def release_of(self, number: int) -> Op | None:
        held = [(pool, address) for pool, (_, addresses) in self.worlds[0].shown.items() for address in addresses]
        return Op("release", *held[number % len(held)]) if held else None

    def told(self, op: Op) -> None:
        self.answered(op, *self.daemon.call(*call_of(op)))

    def died_in(self, op: Op, moment: float) -> None:
        self.daemon.send(*call_of(op))
        time.sleep(moment)
        self.daemon.kill()
        try:
            self.answered(op, *self.daemon.answer())
        except Gone:
            self.unanswered(op)
        self.restarted("killed in a call")

    def answered(self, op: Op, status: int, reply: dict[str, Any]) -> None:
        answer = answer_of(op, status, reply)
        possible = [world.answers(op) for world in self.worlds]
        self.worlds = [world for world, fitting in zip(self.worlds, possible, strict=True) if answer in fitting]
        assert self.worlds, f"{op}: {status} {reply}\npossible: {possible}"
        for world in self.worlds:
            world.apply(op, answer)
        self.life += 1
        self.counted[op.verb if answer is not None else f"{op.verb} refused"] += 1

    def unanswered(self, op: Op) -> None:
        """It was done, with any answer that was possible, or it was not."""
        done: list[Plain] = []
        for world in self.worlds:
            for answer in world.answers(op) - {None}:
                other = world.copy()
                other.apply(op, answer)
                done.append(other)
        self.worlds += done
        self.counted["unanswered"] += 1

    def restarted(self, how: str) -> None:
        self.daemon.forget()
        self.daemon.start()
        for world in self.worlds:
            world.restarted()
        self.life = 0
        self.counted[how] += 1

    def teardown(self) -> None:
        try:
            self.what_is_shown()
            assert self.daemon.stop() == 0
        finally:
            self.daemon.end()
            self.folder.cleanup()


def call_of(op: Op) -> tuple[str, dict[str, Any]]:
    network, _, sub_pool = op.pool.partition(" ")
    bodies: dict[str, dict[str, Any]] = {
        "pool": request_pool(network, sub_pool, v6=":" in network),
        "automatic": request_pool(),
        "end": {"PoolID": op.pool},
        "release": {"PoolID": op.pool, "Address": op.address},
        "gateway": request_address(op.pool, op.address, GATEWAY),
    }
    return VERBS[op.verb], bodies.get(op.verb) or request_address(op.pool, op.address, named(op.name))


def answer_of(op: Op, status: int, reply: dict[str, Any]) -> Answer:
    if status != 200:
        assert status in (400, 409)
        assert reply == {"Err": reply["Err"], "Error": reply["Err"]}
        assert "defect" not in reply["Err"]
        return None
    if VERBS[op.verb] == "RequestPool":
        assert reply["PoolID"].split("/", 1)[1].startswith(reply["Pool"])
        return str(reply["PoolID"])
    return str(reply.get("Address", "")).partition("/")[0]


def address_in(identity: str, number: int) -> str:
    network = ip_network("/".join(identity.split("/")[1:3]))
    return str(network.network_address + number)


# Not shrunk: a shorter way to a failure would take minutes to find, and its steps say enough.
@pytest.mark.timeout(max(300, OPERATIONS // 5))
def test_no_address_is_given_twice_and_none_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    AgainstPlain.counted.clear()
    began = time.monotonic()

    run_state_machine_as_test(
        seed(SEED)(AgainstPlain),
        settings=settings(
            max_examples=max(1, OPERATIONS // OF_ONE),
            stateful_step_count=STEPS,
            phases=[Phase.generate],
            derandomize=False,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

    counted = AgainstPlain.counted
    with capsys.disabled():
        told = ", ".join(f"{what} {count}" for what, count in sorted(counted.items()))
        print(f"\nseed {SEED}, {time.monotonic() - began:.0f} s: {told}")  # noqa: T201  # for who looks for a rare failure
    if OPERATIONS < 3000:  # too few to meet everything
        return
    refused = {f"{verb} refused" for verb in VERBS if verb != "end"}
    assert {*VERBS, *refused, "stopped", "killed", "killed in a call", "unanswered"} <= set(counted)
