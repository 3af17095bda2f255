"""What the contract of the cluster room says, on a cluster in memory and on a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mdnp.cluster import (
    SILENCE_S,
    Batch,
    Change,
    Cluster,
    ClusterUnavailable,
    Compacted,
    Delete,
    Entry,
    Event,
    LeaseGone,
    Put,
    Unchanged,
)
from tests.cluster.grounds import Ground

P = "/t/"
A, B, C = "/t/a", "/t/b", "/t/c"
MANY = 10_500
PATIENCE_S = 10.0


async def put(cluster: Cluster, *changes: Change, conditions: tuple[Unchanged, ...] = ()) -> int:
    """Commit; the revision."""
    revision = await cluster.commit(conditions, changes)
    assert revision is not None
    return revision


@asynccontextmanager
async def watching(cluster: Cluster, after: int, prefix: str = P) -> AsyncIterator["Ears"]:
    watch = cluster.watch(prefix, after)
    try:
        yield Ears(watch)
    finally:
        await watch.aclose()  # type: ignore[attr-defined]  # an async generator, which the contract need not say


class Ears:
    def __init__(self, watch: AsyncIterator[Batch]) -> None:
        self._watch = watch

    async def next(self) -> Batch:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self._watch)

    async def events(self, number: int) -> list[Event]:
        """The next events, not fewer than `number`."""
        heard: list[Event] = []
        while len(heard) < number:
            heard += (await self.next()).events
        return heard

    async def heartbeat(self) -> Batch:
        while (batch := await self.next()).events:
            pass
        return batch

    async def end(self) -> None:
        """Listen until it fails."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self._watch:
                pass


async def until_back(cluster: Cluster) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await cluster.snapshot(P)
            except ClusterUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


# Keys and revisions.


async def test_a_snapshot_has_all_keys_with_the_prefix_and_no_others(ground: Ground) -> None:
    first = await put(ground.cluster, Put(A, b"1"), Put("/t", b"no"), Put("/u", b"no"), Put("/s/z", b"no"))
    second = await put(ground.cluster, Put(B, b"\x00\xff"))

    snapshot = await ground.cluster.snapshot(P)

    assert snapshot.entries == {A: Entry(b"1", first), B: Entry(b"\x00\xff", second)}
    assert (snapshot.revision, second) == (second, first + 1)


async def test_an_empty_cluster_has_a_snapshot_too(ground: Ground) -> None:
    snapshot = await ground.cluster.snapshot(P)

    assert snapshot.entries == {}
    assert snapshot.cluster > 0


async def test_a_snapshot_holds_many_keys(ground: Ground) -> None:
    keys = [f"{P}{number:06}" for number in range(MANY)]
    for at in range(0, MANY, 100):
        await put(ground.cluster, *(Put(key, key.encode()) for key in keys[at : at + 100]))

    snapshot = await ground.cluster.snapshot(P)

    assert list(snapshot.entries) == keys
    assert all(entry.value == key.encode() for key, entry in snapshot.entries.items())
    assert {entry.revision for entry in snapshot.entries.values()} <= set(range(snapshot.revision + 1))


async def test_a_key_is_created_only_once(ground: Ground) -> None:
    revision = await put(ground.cluster, Put(A, b"mine"), conditions=(Unchanged(A, 0),))

    assert await ground.cluster.commit([Unchanged(A, 0)], [Put(A, b"another's")]) is None
    assert (await ground.cluster.snapshot(P)).entries == {A: Entry(b"mine", revision)}


async def test_a_key_is_changed_only_by_who_has_seen_it(ground: Ground) -> None:
    seen = await put(ground.cluster, Put(A, b"1"))
    changed = await put(ground.cluster, Put(A, b"2"), conditions=(Unchanged(A, seen),))

    assert await ground.cluster.commit([Unchanged(A, seen)], [Put(A, b"3")]) is None
    assert (await ground.cluster.snapshot(P)).entries == {A: Entry(b"2", changed)}


async def test_all_conditions_must_hold_or_nothing_is_changed(ground: Ground) -> None:
    seen = await put(ground.cluster, Put(A, b"1"))

    conditions = [Unchanged(A, seen), Unchanged(B, 7)]
    assert await ground.cluster.commit(conditions, [Put(A, b"2"), Put(C, b"2")]) is None
    assert set((await ground.cluster.snapshot(P)).entries) == {A}


async def test_a_key_that_is_gone_is_not_there(ground: Ground) -> None:
    await put(ground.cluster, Put(A, b"1"))
    await put(ground.cluster, Delete(A))

    revision = await put(ground.cluster, Put(A, b"2"), conditions=(Unchanged(A, 0),))

    assert (await ground.cluster.snapshot(P)).entries == {A: Entry(b"2", revision)}


async def test_to_delete_what_is_not_there_changes_nothing(ground: Ground) -> None:
    before = await put(ground.cluster, Put(A, b"1"))

    assert await ground.cluster.commit([], [Delete(B)]) == before


async def test_a_hundred_changes_are_one_revision(ground: Ground) -> None:
    revision = await put(ground.cluster, *(Put(f"{P}{number}", b"x") for number in range(100)))

    snapshot = await ground.cluster.snapshot(P)
    assert [entry.revision for entry in snapshot.entries.values()] == [revision] * 100


async def test_a_key_is_changed_once_in_a_commit(ground: Ground) -> None:
    with pytest.raises(ClusterUnavailable, match="duplicate key"):
        await ground.cluster.commit([], [Put(A, b"1"), Put(A, b"2")])

    assert (await ground.cluster.snapshot(P)).entries == {}


# Leases.


async def test_what_hangs_on_a_lease_goes_with_it(ground: Ground) -> None:
    lease = await ground.cluster.grant(2)
    revision = await put(ground.cluster, Put(A, b"1", lease), Put(B, b"stays"))
    async with watching(ground.cluster, revision) as ears:
        await ground.expire(lease)

        assert await ears.events(1) == [Event(A, None)]
    assert set((await ground.cluster.snapshot(P)).entries) == {B}
    with pytest.raises(LeaseGone):
        await ground.cluster.keep_alive(lease)


async def test_what_is_put_again_without_a_lease_stays(ground: Ground) -> None:
    lease = await ground.cluster.grant(2)
    await put(ground.cluster, Put(A, b"1", lease), Put(B, b"1", lease))
    await put(ground.cluster, Put(A, b"2"))

    await ground.cluster.revoke(lease)

    assert set((await ground.cluster.snapshot(P)).entries) == {A}


async def test_a_lease_that_is_kept_alive_stays(ground: Ground) -> None:
    lease = await ground.cluster.grant(2)
    await put(ground.cluster, Put(A, b"1", lease))

    for _ in range(6):  # longer than its time
        await ground.cluster.keep_alive(lease)
        await ground.pass_time(0.5)

    assert A in (await ground.cluster.snapshot(P)).entries


async def test_a_lease_that_is_gone_can_hold_nothing_and_be_revoked_again(ground: Ground) -> None:
    lease = await ground.cluster.grant(60)
    await ground.cluster.revoke(lease)

    await ground.cluster.revoke(lease)
    with pytest.raises(LeaseGone):
        await ground.cluster.commit([], [Put(A, b"1", lease)])
    with pytest.raises(LeaseGone):
        await ground.cluster.keep_alive(lease)
    assert (await ground.cluster.snapshot(P)).entries == {}


async def test_a_condition_is_looked_at_before_the_lease(ground: Ground) -> None:
    lease = await ground.cluster.grant(60)
    await ground.cluster.revoke(lease)

    assert await ground.cluster.commit([Unchanged(A, 5)], [Put(A, b"1", lease)]) is None


# Watching.


async def test_a_watch_tells_what_happened_since_and_what_happens(ground: Ground) -> None:
    start = await put(ground.cluster, Put(A, b"before"))
    first = await put(ground.cluster, Put(A, b"1"), Put("/other", b"1"))
    second = await put(ground.cluster, Delete(A))
    async with watching(ground.cluster, start) as ears:
        assert await ears.events(2) == [Event(A, Entry(b"1", first)), Event(A, None)]

        third = await put(ground.cluster, Put(B, b"3"))
        assert await ears.next() == Batch(third, (Event(B, Entry(b"3", third)),))
    assert second < third


async def test_the_order_of_changes_is_told(ground: Ground) -> None:
    start = (await ground.cluster.snapshot(P)).revision
    async with watching(ground.cluster, start) as ears:
        revisions = [await put(ground.cluster, Put(A, str(number).encode())) for number in range(200)]

        assert await ears.events(200) == [
            Event(A, Entry(str(number).encode(), revision)) for number, revision in enumerate(revisions)
        ]


async def test_changes_of_one_commit_are_told_together(ground: Ground) -> None:
    await put(ground.cluster, Put(C, b"1"))
    start = (await ground.cluster.snapshot(P)).revision
    revision = await put(ground.cluster, Put(B, b"1"), Put(A, b"1"), Delete(C))
    async with watching(ground.cluster, start) as ears:
        batch = await ears.next()

    assert batch.revision == revision
    assert set(batch.events) == {Event(A, Entry(b"1", revision)), Event(B, Entry(b"1", revision)), Event(C, None)}


async def test_much_is_told_at_once(ground: Ground) -> None:
    """More than gRPC's usual 4 MB, and more revisions than etcd tells in one message."""
    start = (await ground.cluster.snapshot(P)).revision
    value = b"x" * 4000
    for _ in range(1200):
        await put(ground.cluster, Put(A, value))
    async with watching(ground.cluster, start) as ears:
        events = await ears.events(1200)

    assert [event.entry.revision for event in events if event.entry] == list(range(start + 1, start + 1201))


async def test_a_watch_is_resumed_after_what_a_batch_told(ground: Ground) -> None:
    start = (await ground.cluster.snapshot(P)).revision
    await put(ground.cluster, Put(A, b"1"))
    async with watching(ground.cluster, start) as ears:
        told = (await ears.next()).revision
    missed = await put(ground.cluster, Put(A, b"2"))

    async with watching(ground.cluster, told) as ears:
        assert await ears.events(1) == [Event(A, Entry(b"2", missed))]


@pytest.mark.long
async def test_a_heartbeat_never_runs_ahead_of_what_was_told(ground: Ground) -> None:
    start = (await ground.cluster.snapshot(P)).revision
    async with watching(ground.cluster, start) as ears:
        last = await put(ground.cluster, Put(A, b"1"))
        beat = await ears.heartbeat()
        await put(ground.cluster, Put("/other", b"1"))
        later = await ears.heartbeat()

    assert last <= beat.revision <= later.revision
    missed = await put(ground.cluster, Put(A, b"2"))
    async with watching(ground.cluster, later.revision) as ears:
        assert await ears.events(1) == [Event(A, Entry(b"2", missed))]


@pytest.mark.long
async def test_what_is_forgotten_cannot_be_watched(ground: Ground) -> None:
    start = await put(ground.cluster, Put(A, b"1"))
    await put(ground.cluster, Put(A, b"2"))
    await put(ground.cluster, Put(A, b"3"))
    await ground.compact()

    async with watching(ground.cluster, start) as ears:
        with pytest.raises(Compacted):
            await ears.end()
    snapshot = await ground.cluster.snapshot(P)
    assert snapshot.entries[A].value == b"3"
    async with watching(ground.cluster, snapshot.revision) as ears:
        await ears.heartbeat()


# Trouble.


@pytest.mark.long
async def test_a_frozen_server_is_noticed(ground: Ground) -> None:
    start = await put(ground.cluster, Put(A, b"1"))
    async with watching(ground.cluster, start - 1) as ears:
        await ears.events(1)
        await ground.freeze()
        with pytest.raises(ClusterUnavailable):
            async with asyncio.timeout(SILENCE_S + 1):
                await ears.end()
    with pytest.raises(ClusterUnavailable):
        await ground.cluster.commit([], [Put(B, b"1")])
    await ground.thaw()

    await until_back(ground.cluster)
    async with watching(ground.cluster, start - 1) as ears:
        await ears.events(1)


async def test_a_server_that_ends_breaks_its_watches_and_is_found_again(ground: Ground) -> None:
    start = await put(ground.cluster, Put(A, b"1"))
    async with watching(ground.cluster, start - 1) as ears:
        await ears.events(1)
        await ground.go()
        with pytest.raises(ClusterUnavailable):
            await ears.end()
    for call in (
        ground.cluster.snapshot(P),
        ground.cluster.commit([], [Put(A, b"2")]),
        ground.cluster.grant(5),
        ground.cluster.keep_alive(1),
        ground.cluster.revoke(1),
    ):
        with pytest.raises(ClusterUnavailable):
            await call
    async with watching(ground.cluster, start) as ears:
        with pytest.raises(ClusterUnavailable):
            await ears.end()

    await ground.come_back()
    await until_back(ground.cluster)
    after = await put(ground.cluster, Put(A, b"3"))
    async with watching(ground.cluster, start) as ears:
        assert (await ears.events(1))[-1] == Event(A, Entry(b"3", after))


async def test_a_watch_does_not_go_on_where_the_data_were_lost(ground: Ground) -> None:
    for _ in range(5):
        start = await put(ground.cluster, Put(A, b"1"))
    await ground.lose()
    await until_back(ground.cluster)

    async with watching(ground.cluster, start) as ears:
        with pytest.raises(Compacted):
            await ears.end()
    snapshot = await ground.cluster.snapshot(P)
    assert (snapshot.entries, snapshot.revision) == ({}, 1)


async def test_a_backup_that_is_put_in_place_is_another_cluster(ground: Ground) -> None:
    await put(ground.cluster, Put(A, b"1"))
    await ground.save()
    await put(ground.cluster, Put(A, b"2"))
    before = await ground.cluster.snapshot(P)
    await ground.restore()
    async with AsyncExitStack() as stack:
        await until_back_unasked(ground)
        ears = await stack.enter_async_context(watching(ground.cluster, before.revision))
        with pytest.raises(Compacted):
            await ears.end()

    after = await ground.cluster.snapshot(P)
    assert after.cluster != before.cluster
    assert after.entries[A].value == b"1"
    assert after.revision < before.revision


async def until_back_unasked(ground: Ground) -> None:
    """As `until_back`, by a call that does not tell the client of which cluster the data are."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await ground.cluster.grant(60)
            except ClusterUnavailable:
                await asyncio.sleep(0.05)
            else:
                return
