"""Members over one etcd, and whatever may happen to hosts, daemons, lines and etcd, in any order."""

import asyncio
from collections import Counter
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mdnp.cluster import Entry
from mdnp.member import About
from mdnp.member.records import BLOCKS, decode, host_of
from mdnp.member.rows import BlockRow
from mdnp.model.errors import MdnpError
from mdnp.model.host import HostID
from mdnp.model.identity import NetworkID
from mdnp.model.segment import Block
from tests.member.hours import Hours
from tests.member.lab import LEASE_S, Lab, Machine, Wanted, quiet

pytestmark = pytest.mark.long

HOSTS = 4
WANTED = [Wanted(("10.50.0.0/24",)), Wanted(("10.60.0.0/26", "fd60::/120"))]

hosts = st.integers(0, HOSTS - 1)
segments = st.sampled_from(WANTED)


class Members(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=Hours)
        self.removed: set[HostID] = set()
        self.identities: dict[str, set[HostID]] = {}
        self.backups: list[dict[str, Entry]] = []
        self.lab: Lab

    def do(self, story: Any) -> Any:
        return self.runner.run(story)

    @initialize()
    def begin(self) -> None:
        async def story() -> Lab:
            made = Lab()
            for _ in range(HOSTS):
                await made.add()
            return made

        self.lab = self.do(story())

    def teardown(self) -> None:
        if hasattr(self, "lab"):
            try:
                self.do(self.settle())
                self.do(self.check_settled())
            finally:
                self.do(self.lab.close())
        self.runner.close()

    # What users do.

    @rule(number=hosts, wanted=segments)
    def create_network(self, number: int, wanted: Wanted) -> None:
        machine = self.lab.machines[number]
        if machine.runs and NetworkID(wanted.segment) not in machine.notebook.networks:
            self.attempt(machine.network(wanted))

    @rule(number=hosts, wanted=segments)
    def remove_network(self, number: int, wanted: Wanted) -> None:
        machine = self.lab.machines[number]
        if machine.runs and NetworkID(wanted.segment) in machine.notebook.networks:
            self.do(machine.remove_network(wanted.segment))

    @rule(number=hosts, wanted=segments, count=st.integers(1, 4))
    def attach(self, number: int, wanted: Wanted, count: int) -> None:
        machine = self.lab.machines[number]
        pool = ip_network(wanted.subnets[0])
        for _ in range(count):
            if machine.runs and NetworkID(wanted.segment) in machine.notebook.networks:
                if machine.addresses.next(pool) is None:
                    self.attempt(machine.member.claim_block(pool, pool))
                if machine.addresses.next(pool) is not None:
                    self.do(machine.attach(wanted.segment))

    @rule(number=hosts, wanted=segments, index=st.integers(2, 60))
    def attach_at(self, number: int, wanted: Wanted, index: int) -> None:
        machine = self.lab.machines[number]
        pool = ip_network(wanted.subnets[0])
        place = pool, pool[index]
        free = place not in machine.addresses.held and place not in machine.addresses.kept
        if machine.runs and NetworkID(wanted.segment) in machine.notebook.networks and free:
            self.attempt(machine.attach(wanted.segment, at=str(pool[index])))

    @rule(number=hosts, index=st.integers(0, 9))
    def detach(self, number: int, index: int) -> None:
        machine = self.lab.machines[number]
        endpoints = list(machine.notebook.endpoints.values())
        if machine.runs and endpoints:
            self.do(machine.detach(endpoints[index % len(endpoints)]))

    @rule(number=hosts, wanted=segments)
    def claim_block(self, number: int, wanted: Wanted) -> None:
        machine = self.lab.machines[number]
        pool = ip_network(wanted.subnets[-1])
        if machine.runs and NetworkID(wanted.segment) in machine.notebook.networks:
            self.attempt(machine.member.claim_block(pool, pool))

    @rule(number=hosts, index=st.integers(0, 9))
    def give_block_back(self, number: int, index: int) -> None:
        machine = self.lab.machines[number]
        if machine.runs:
            self.do(machine.give_back(index))

    # What befalls them.

    @rule(number=hosts)
    def kill(self, number: int) -> None:
        self.do(self.lab.machines[number].stop())

    @rule(number=hosts)
    def start(self, number: int) -> None:
        if not self.lab.machines[number].runs:
            self.do(self.lab.machines[number].start())

    @rule(number=hosts)
    def cut(self, number: int) -> None:
        self.lab.machines[number].line.cut = True

    @rule(number=hosts)
    def mend_line(self, number: int) -> None:
        self.lab.machines[number].line.cut = False

    @rule()
    def freeze(self) -> None:
        self.lab.cluster.freeze()

    @rule()
    def thaw(self) -> None:
        self.do(self.thawed())

    @rule()
    def stop_etcd(self) -> None:
        self.do(self.gone())

    @rule()
    def start_etcd(self) -> None:
        self.do(self.back())

    @rule()
    def compact(self) -> None:
        self.lab.cluster.compact()

    @rule()
    def back_up(self) -> None:
        entries = self.lab.cluster.entries.items()
        self.backups.append({key: entry for key, entry in entries if "/alive/" not in key})

    def all_know_each_other(self) -> bool:
        """Hosts wait for those that they know: a host that nobody heard of before the loss has no protection."""

        async def story() -> bool:
            everybody = {one.id for one in self.lab.machines}
            return all(everybody <= one.known | {one.id} for one in self.lab.machines)

        return bool(self.do(story()))

    @precondition(lambda self: self.all_know_each_other())
    @rule(index=st.integers(0, 3), restore=st.booleans(), grown=st.sampled_from([0, 0, 1000]))
    def lose(self, index: int, restore: bool, grown: int) -> None:
        backup = self.backups[index % len(self.backups)] if restore and self.backups else {}
        self.do(self.lost(backup, grown))

    @rule(number=hosts, other=hosts)
    def remove(self, number: int, other: int) -> None:
        machine, victim = self.lab.machines[number], self.lab.machines[other]
        if machine.runs and not victim.runs:
            host = victim.id
            self.removed.add(host)  # even if it failed half way
            self.attempt(machine.member.remove_host(host))

    @rule(seconds=st.sampled_from([0.1, 1, 4, LEASE_S + 1, 3 * LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.do(quiet(seconds))

    @rule()
    def settle_all(self) -> None:
        self.do(self.settle())
        self.do(self.check_settled())

    @rule(number=hosts)
    def die(self, number: int) -> None:
        """With all else well, a host is stopped for long."""
        self.do(self.settle())
        victim = self.lab.machines[number]
        self.do(victim.stop())
        self.do(quiet(2 * LEASE_S + 3))
        for machine in self.lab.machines:
            if machine is not victim:
                assert not any(line.endswith(f" on {victim.vtep}") for line in machine.seen)

    @rule(seconds=st.integers(1, 100))
    def freeze_for(self, seconds: int) -> None:
        """With all else well, etcd freezes: nobody is withdrawn."""
        self.do(self.settle())
        for machine in self.lab.machines:
            machine.news.clear()
        self.lab.cluster.freeze()
        self.do(quiet(seconds))
        self.do(self.thawed())
        self.do(quiet(3 * LEASE_S))
        assert [news.remotes for machine in self.lab.machines for news in machine.news if news.remotes] == []

    # What must hold.

    @invariant()
    def no_address_is_held_twice(self) -> None:
        held = Counter(place for machine in self.in_cluster() for place in machine.addresses.held)
        assert [place for place, count in held.items() if count > 1] == []

    @invariant()
    def no_block_is_handed_out_from_twice(self) -> None:
        blocks = Counter(block for machine in self.in_cluster() for block in machine.notebook.blocks.values())
        assert [block for block, count in blocks.items() if count > 1] == []

    @invariant()
    def a_segment_has_one_vni_and_a_vni_one_segment(self) -> None:
        networks = [network for machine in self.in_cluster() for network in machine.notebook.networks.values()]
        assert len({network.vni for network in networks}) == len({network.id for network in networks})

    @invariant()
    def nobody_deletes_what_another_told(self) -> None:
        for machine in self.in_cluster():
            ours = self.identities.setdefault(machine.name, set())
            ours.add(machine.id)
            for key in machine.line.deleted:
                assert host_of(key) in {None, *ours, *self.removed}

    def in_cluster(self) -> list[Machine]:
        """All but those that were removed and do not know it yet: theirs may be others' by now."""
        return [one for one in getattr(self, "lab", Lab()).machines if one.id not in self.removed]

    async def check_settled(self) -> None:
        for machine in self.lab.machines:
            others = [one for one in self.lab.machines if one is not machine]
            assert machine.trouble == ""
            assert machine.seen == sorted(line for one in others for line in one.promised)
            standing = machine.member.standing()
            assert (standing.pending, standing.waiting) == (0, ())
            assert [one for one in standing.remarks if one.about is not About.HOST] == []
        self.check_etcd()

    def check_etcd(self) -> None:
        cluster, machines = self.lab.cluster, self.lab.machines
        assert len(cluster.keys("/alive/")) == HOSTS
        promised = {network.id for machine in machines for network in machine.notebook.networks.values()}
        assert len(cluster.keys("/segments/")) == len(cluster.keys("/vnis/")) == len(promised)
        owned = {block for machine in machines for block in machine.notebook.blocks.values()}
        outside = {place for machine in machines for place in machine.addresses.outside()}
        kept = {place for machine in machines for place in machine.addresses.kept}
        rows = [decode(key, entry.value) for key, entry in cluster.entries.items() if key.startswith(BLOCKS)]
        blocks = [row for row in rows if isinstance(row, BlockRow)]
        assert {Block(row.pool, row.network) for row in blocks if row.owner} == owned
        assert {(row.pool, address) for row in blocks for address in row.claims} == outside
        assert {(row.pool, address) for row in blocks if row.owner for address in row.claims} == kept

    async def settle(self) -> None:
        """Everything works again, and there is time."""
        self.lab.cluster.frozen = False
        await self.back()
        for machine in self.lab.machines:
            machine.line.cut = False
            if not machine.runs:
                await machine.start()
        await quiet(2 * LEASE_S + 65)

    async def thawed(self) -> None:
        if self.lab.cluster.frozen:
            self.lab.cluster.thaw()

    async def gone(self) -> None:
        self.lab.cluster.go()

    async def back(self) -> None:
        if self.lab.cluster.away:
            self.lab.cluster.come_back()

    async def lost(self, backup: dict[str, Entry], grown: int) -> None:
        self.lab.cluster.lose(backup)
        self.lab.cluster.revision += grown
        self.lab.cluster.compact()

    def attempt(self, story: Any) -> None:
        """What may be refused, with a reason, and leaves nothing then."""
        with suppress(MdnpError):
            self.do(story)


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
