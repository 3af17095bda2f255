"""The store: what is answered is on disk, and nothing else is."""

import asyncio
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import Conflict, Damaged, InvalidParameter, MdnpError, StoreUnavailable
from mdnp.model.names import Called, Names
from mdnp.model.network import Network
from mdnp.model.options import GatewayMode, NetworkOptions, Routing
from mdnp.model.port import Protocol, Publication
from mdnp.store import Drop, Put, Store
from mdnp.store.migrations import MIGRATIONS
from mdnp.store.rows import called_of, endpoint_of, network_of, statement
from mdnp.store.sqlite import FILE, SqliteStore
from tests.dataplane.strategies import publications
from tests.world import DB, NET, OTHER_NET, WEB, a_network, a_port, an_endpoint

NETWORK = a_network(
    NET,
    "10.1.0.0/24 10.1.0.1/24",
    "fd00::/64",
    internal=True,
    options=NetworkOptions(
        gateway=GatewayMode.NONE,
        mtu=9000,
        bridge_name="lab0",
        iface_prefix="krish-mdnp",
        icc=False,
        masquerade=False,
        host_binding=IPv4Address("192.0.2.1"),
        routing_ipv4=Routing.ROUTED,
        routing_ipv6=Routing.ISOLATED,
        guard=False,
        dns=True,
    ),
    mtu=9000,
)
ENDPOINT = an_endpoint(
    WEB,
    "10.1.0.2/24",
    "fd00::2/64",
    phase=Phase.JOINED,
    sandbox="/var/run/docker/netns/0",
    mac_given=True,
    allowed=["10.9.0.0/24", "fd09::9/128"],
    ports=[
        Publication(a_port(80, 8080), 8080),
        Publication(a_port(53, 53, 59, Protocol.UDP, "127.0.0.1"), 54, carried=False),
        Publication(a_port(9, protocol=Protocol.SCTP, address="2001:db8::1"), 32768),
    ],
)

Kept = tuple[list[Network], list[Endpoint]]


def kept(store: Store) -> Kept:
    return list(store.promises.networks.values()), list(store.promises.endpoints.values())


async def reopened(folder: Path) -> Kept:
    """What is on disk, by another daemon's eyes."""
    store = await SqliteStore.open(folder)
    try:
        return kept(store)
    finally:
        await store.close()


async def refusal(folder: Path) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        await SqliteStore.open(folder)
    return type(caught.value), str(caught.value)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def transactions(folder: Path) -> int:
    """How many were written to the write-ahead log. https://sqlite.org/fileformat2.html#walformat"""
    log = (folder / f"{FILE}-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    frames = [log[at : at + 24] for at in range(32, len(log), 24 + page)]
    return sum(frame[8:16] == log[16:24] and frame[4:8] != bytes(4) for frame in frames)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the log has now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / f"{FILE}-wal").stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_new_store_promises_nothing(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "deep" / "state")

    assert kept(store) == ([], [])
    await store.close()


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT))
    await store.commit(Put(a_network(OTHER_NET)))
    await store.commit(Drop(a_network(OTHER_NET)))
    in_memory = kept(store)
    await store.close()

    assert in_memory == ([NETWORK], [ENDPOINT])
    assert await reopened(tmp_path) == in_memory


async def test_what_was_committed_is_on_disk_though_the_daemon_is_killed(tmp_path: Path) -> None:
    """The files as they are right after the answer, the log not yet merged."""
    store = await SqliteStore.open(tmp_path / "state")
    await store.commit(Put(NETWORK))
    await store.commit(Put(ENDPOINT))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (tmp_path / "state").glob(f"{FILE}*"):
        (copy / file.name).write_bytes(file.read_bytes())
    await store.close()

    assert await reopened(copy) == ([NETWORK], [ENDPOINT])


async def test_a_promise_is_replaced_by_the_one_with_its_id(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT))
    left = replace(ENDPOINT, phase=Phase.LEFT)

    await store.commit(Put(left))
    await store.commit(Put(replace(NETWORK, mtu=1400)))

    assert kept(store) == ([replace(NETWORK, mtu=1400)], [left])
    await store.close()
    assert await reopened(tmp_path) == ([replace(NETWORK, mtu=1400)], [left])


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=3).map(tuple))
def test_names_are_read_as_they_were_written(texts: tuple[str, ...]) -> None:
    name, hostname, service, *aliases = texts
    called = Called(WEB, Names(name, tuple(aliases), hostname, service))

    assert called_of(statement(Put(called))[1]) == called


async def test_what_docker_calls_things_is_kept_with_or_without_what_is_called(tmp_path: Path) -> None:
    called = [Called(NET, Names("blue")), Called(WEB, Names("web", ("www", "c3c3c3c3c3c3"), "c3c3c3c3c3c3", "shop"))]
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT), *map(Put, called))
    await store.commit(Put(Called(WEB, Names("old"))))
    await store.commit(Put(called[1]), Put(Called(DB, Names("db"))))
    await store.commit(Drop(ENDPOINT), Drop(NETWORK), Drop(Called(DB, Names(""))))
    in_memory = list(store.promises.called.values())
    await store.close()

    store = await SqliteStore.open(tmp_path)

    assert in_memory == list(store.promises.called.values()) == called
    await store.commit(*map(Drop, called))
    assert not store.promises.called
    await store.close()


async def test_annexes_are_kept(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(replace(NETWORK, annexes=2)), Put(replace(ENDPOINT, annex=1)))
    await store.close()

    store = await SqliteStore.open(tmp_path)

    assert [one.annexes for one in store.promises.networks.values()] == [2]
    assert [one.annex for one in store.promises.endpoints.values()] == [1]
    await store.close()


async def test_a_state_without_names_is_taken_on(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT))
    await store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.executescript(
            "DROP TABLE called; ALTER TABLE network DROP COLUMN annexes; ALTER TABLE endpoint DROP COLUMN annex;"
            " PRAGMA user_version=1;"
        )

    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(Called(WEB, Names("web"))))

    assert kept(store) == ([NETWORK], [ENDPOINT])
    assert store.promises.called == {WEB: Called(WEB, Names("web"))}
    await store.close()


async def test_dropping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)

    await store.commit(Drop(NETWORK), Drop(ENDPOINT))

    assert kept(store) == ([], [])
    await store.close()


async def test_changes_are_made_all_or_none(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    nowhere = an_endpoint(WEB, network=OTHER_NET)

    with pytest.raises(Conflict, match=r"^network a1a1a1a1a1a1, endpoint c3c3c3c3c3c3: FOREIGN KEY .*try again$"):
        await store.commit(Put(NETWORK), Put(nowhere))

    assert kept(store) == ([], [])
    await store.close()
    assert await reopened(tmp_path) == ([], [])


async def test_a_network_with_endpoints_cannot_be_dropped_alone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT))

    with pytest.raises(Conflict):
        await store.commit(Drop(NETWORK))

    assert kept(store) == ([NETWORK], [ENDPOINT])
    await store.commit(Drop(ENDPOINT), Drop(NETWORK))
    assert kept(store) == ([], [])
    await store.close()


async def test_concurrent_commits_share_transactions(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    before = transactions(tmp_path)

    await asyncio.gather(*(store.commit(Put(an_endpoint(f"{n:012}"))) for n in range(50)))

    assert len(store.promises.endpoints) == 50
    assert 1 <= transactions(tmp_path) - before < 25
    in_memory = kept(store)
    await store.close()
    assert await reopened(tmp_path) == in_memory


async def test_in_a_shared_transaction_only_the_faulty_commit_fails(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    commits = [store.commit(Put(an_endpoint(f"{n:012}", network=OTHER_NET if n % 3 == 0 else NET))) for n in range(12)]

    results = await asyncio.gather(*commits, return_exceptions=True)

    assert [isinstance(one, Conflict) for one in results] == [n % 3 == 0 for n in range(12)]
    assert list(store.promises.endpoints) == [f"{n:012}" for n in range(12) if n % 3]
    in_memory = kept(store)
    await store.close()
    assert await reopened(tmp_path) == in_memory


async def test_memory_follows_the_disk_when_the_caller_gave_up(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    caller = asyncio.create_task(store.commit(Put(NETWORK)))
    await asyncio.sleep(0)
    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller
    await store.commit(Put(ENDPOINT))

    assert kept(store) == ([NETWORK], [ENDPOINT])
    await store.close()


async def test_a_value_that_cannot_be_written_fails_its_commit_and_no_other(tmp_path: Path) -> None:
    """Half a surrogate pair has no UTF-8: sqlite3 raises UnicodeEncodeError for it, no error of its own."""
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))

    bad, good = await asyncio.wait_for(
        asyncio.gather(
            store.commit(Put(replace(ENDPOINT, sandbox="\ud800"))),
            store.commit(Put(an_endpoint(DB))),
            return_exceptions=True,
        ),
        timeout=2,
    )

    assert (type(bad), good) == (InvalidParameter, None)
    assert kept(store) == ([NETWORK], [an_endpoint(DB)])
    await store.close()


async def test_a_second_daemon_is_told_who_has_the_store(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)

    kind, words = await refusal(tmp_path)

    assert kind is Conflict
    assert words.startswith(f"the state in {tmp_path} is in use by another mdnp (pid ")
    await store.commit(Put(NETWORK))
    await store.close()
    assert await reopened(tmp_path) == ([NETWORK], [])


async def test_a_newer_schema_is_refused_and_the_file_stays_byte_for_byte(tmp_path: Path) -> None:
    newer = [*MIGRATIONS, "ALTER TABLE network ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'"]
    store = await SqliteStore.open(tmp_path, newer)
    await store.close()
    before = (tmp_path / FILE).read_bytes()

    kind, words = await refusal(tmp_path)

    assert kind is StoreUnavailable
    assert f"has schema {len(newer)}, and this mdnp knows schemas up to {len(MIGRATIONS)}" in words
    assert (tmp_path / FILE).read_bytes() == before


async def test_a_newer_mdnp_migrates_what_is_there(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), Put(ENDPOINT))
    await store.close()
    newer = [*MIGRATIONS, "CREATE TABLE later (id TEXT PRIMARY KEY) STRICT; INSERT INTO later VALUES ('x')"]

    store = await SqliteStore.open(tmp_path, newer)

    assert kept(store) == ([NETWORK], [ENDPOINT])
    await store.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)
        assert connection.execute("SELECT * FROM later").fetchall() == [("x",)]
    connection.close()


async def test_a_migration_that_fails_leaves_the_schema_before_it(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    await store.close()

    with pytest.raises(StoreUnavailable, match="no such table: nowhere"):
        await SqliteStore.open(tmp_path, [*MIGRATIONS, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)"])

    assert await reopened(tmp_path) == ([NETWORK], [])


async def test_another_program_s_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    before = (tmp_path / FILE).read_bytes()

    assert await refusal(tmp_path) == (
        StoreUnavailable,
        f"{tmp_path / FILE} is a database, but not mdnp's: move it away, or choose another state folder",
    )
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all\n" * 100, b"x", b"SQLite format 3\0" + bytes(5000)])
async def test_a_broken_file_is_refused_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    kind, words = await refusal(tmp_path)

    assert kind is (StoreUnavailable if content == b"x" else Damaged)  # SQLite takes one byte for an empty database
    assert str(tmp_path / FILE) in words
    assert (tmp_path / FILE).read_bytes() == content


async def test_a_file_that_was_overwritten_inside_is_damaged_and_stays_as_it_is(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK), *(Put(an_endpoint(f"{n:012}")) for n in range(200)))
    await store.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[2 * 4096 :] = b"\xff" * len(content[2 * 4096 :])
    (tmp_path / FILE).write_bytes(content)

    kind, words = await refusal(tmp_path)

    assert (kind, str(tmp_path / FILE) in words) == (Damaged, True)
    assert (tmp_path / FILE).read_bytes() == content


@pytest.mark.parametrize("damage", [bytes(4096), b"\xff" * 32, b"\xff"])
async def test_a_damaged_log_is_not_passed_over(tmp_path: Path, damage: bytes) -> None:
    """SQLite would: the file alone has none of what was promised."""
    folder = tmp_path / "killed"
    folder.mkdir()
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    for file in files(tmp_path):
        if file.name.startswith(FILE):
            (folder / file.name).write_bytes(file.read_bytes())
    await store.close()
    log = folder / f"{FILE}-wal"
    whole = log.read_bytes()
    log.write_bytes(damage + whole[len(damage) :])

    kind, words = await refusal(folder)
    log.write_bytes(whole)
    mended = await SqliteStore.open(folder)

    assert (kind, str(log) in words) == (Damaged, True)
    assert kept(mended) == ([NETWORK], [])
    await mended.close()


@pytest.mark.parametrize("size", [0, 31, 32])
async def test_a_log_of_no_more_than_a_head_has_nothing_to_lose(tmp_path: Path, size: int) -> None:
    """As the kernel may leave one that was being begun when the power went."""
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    await store.close()
    (tmp_path / f"{FILE}-wal").write_bytes(bytes(size))

    store = await SqliteStore.open(tmp_path)

    assert kept(store) == ([NETWORK], [])
    await store.close()


async def test_what_is_put_aside_is_kept_whole_and_the_folder_begins_anew(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"{FILE}{suffix}").write_bytes(f"garbage{suffix}".encode() * 1000)

    aside = await SqliteStore.set_aside(tmp_path, "damaged-now")

    assert aside == tmp_path / f"{FILE}.damaged-now"
    kept_files = {file.name: file.read_bytes()[:11] for file in files(tmp_path)}
    assert kept_files == {
        aside.name: b"garbagegarb",
        f"{aside.name}-wal": b"garbage-wal",
        f"{aside.name}-shm": b"garbage-shm",
    }
    store = await SqliteStore.open(tmp_path)
    assert (kept(store), store.is_new) == (([], []), True)
    await store.close()


async def test_nothing_to_put_aside_is_no_error(tmp_path: Path) -> None:
    await SqliteStore.set_aside(tmp_path, "damaged-now")

    assert files(tmp_path) == []


async def test_a_store_is_new_once(tmp_path: Path) -> None:
    """Then nothing is to be recovered: an operator may have removed everything since."""
    news = []
    for _ in range(2):
        store = await SqliteStore.open(tmp_path)
        news.append(store.is_new)
        await store.close()

    assert news == [True, False]


async def test_records_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))
    await store.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute('UPDATE network SET subnets = \'[{"pool": "nonsense"}]\'')
    connection.close()

    kind, words = await refusal(tmp_path)

    assert (kind, str(tmp_path / FILE) in words) == (StoreUnavailable, True)


async def test_after_a_refusal_the_folder_is_free_again(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"garbage" * 100)
    await refusal(tmp_path)

    (tmp_path / FILE).unlink()

    assert await reopened(tmp_path) == ([], [])


async def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    """A crash before the first transaction leaves one."""
    (tmp_path / FILE).touch()

    assert await reopened(tmp_path) == ([], [])


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    kind, words = await refusal(tmp_path / "file" / "state")

    assert (kind, "cannot use the state in" in words) == (StoreUnavailable, True)


async def test_on_a_full_disk_nothing_changes_until_there_is_room(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))

    for _ in range(2):
        with (
            full_disk(tmp_path),
            pytest.raises(StoreUnavailable, match=r"^cannot write .*nothing was changed$"),
        ):
            await store.commit(Put(ENDPOINT))
    while_full = kept(store)
    await store.commit(Put(an_endpoint(DB)))

    assert while_full == ([NETWORK], [])
    assert kept(store) == ([NETWORK], [an_endpoint(DB)])
    await store.close()
    assert await reopened(tmp_path) == ([NETWORK], [an_endpoint(DB)])


async def test_on_a_full_disk_every_commit_of_a_shared_transaction_fails(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Put(NETWORK))

    with full_disk(tmp_path):
        results = await asyncio.gather(
            *(store.commit(Put(an_endpoint(f"{n:012}"))) for n in range(10)), return_exceptions=True
        )

    assert {type(one) for one in results} == {StoreUnavailable}
    assert kept(store) == ([NETWORK], [])
    await store.close()
    assert await reopened(tmp_path) == ([NETWORK], [])


async def test_only_the_owner_may_read_the_state(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "state")
    await store.commit(Put(NETWORK))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").glob(f"{FILE}*")}

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert modes == {FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600}
    await store.close()


words = st.text(st.characters(exclude_categories=["Cs"]))
seconds = st.floats(0, 1e11)
ip_networks = st.one_of(
    st.builds(
        lambda number, length: IPv4Network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, length: IPv6Network((number, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)
endpoints = st.builds(
    replace,
    st.builds(
        an_endpoint,
        st.text("0123456789abcdef", min_size=12, max_size=64),
        st.ip_addresses(v=4).map(lambda ip: f"{ip}/24"),
        st.ip_addresses(v=6).map(lambda ip: f"{ip}/64"),
        phase=st.sampled_from(Phase),
        sandbox=words,
        mac_given=st.booleans(),
    ),
    allowed=st.lists(ip_networks, max_size=3).map(tuple),
    ports=st.lists(publications(), max_size=3).map(tuple),
    since=seconds,
)
networks = st.builds(
    replace,
    st.builds(
        a_network,
        st.text("0123456789abcdef", min_size=12, max_size=64),
        st.sampled_from(["10.1.0.0/24 10.1.0.1/24", "10.0.0.0/8", "fd00::/64 fd00::1/64"]),
        internal=st.booleans(),
        options=st.builds(
            NetworkOptions,
            gateway=st.sampled_from(GatewayMode),
            mtu=st.none() | st.integers(68, 65535),
            bridge_name=st.none() | words,
            iface_prefix=words,
            icc=st.booleans(),
            masquerade=st.booleans(),
            host_binding=st.none() | st.ip_addresses(v=4),
            routing_ipv4=st.sampled_from(Routing),
            routing_ipv6=st.sampled_from(Routing),
            guard=st.booleans(),
            dns=st.none() | st.booleans(),
        ),
        mtu=st.integers(68, 65535),
    ),
    since=seconds,
    listed=st.booleans(),
)


@given(endpoints)
def test_every_endpoint_survives_its_row(endpoint: Endpoint) -> None:
    read = endpoint_of(statement(Put(endpoint))[1])

    assert (read, read.since) == (endpoint, endpoint.since)


@given(networks)
def test_every_network_survives_its_row(network: Network) -> None:
    read = network_of(statement(Put(network))[1])

    assert (read, read.since, read.listed) == (network, network.since, network.listed)


@pytest.mark.long
async def test_the_history_ends_somewhere_and_what_is_held_stays(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        add = "INSERT INTO allocation VALUES ('pool', ?, 'endpoint', '', ?, ?)"
        connection.execute(add, ("10.0.0.1", 0.0, None))
        connection.executemany(add, (("10.0.0.2", float(number), number + 0.5) for number in range(102_000)))

        [[oldest, rows]] = connection.execute("SELECT min(allocated_at), count(*) FROM allocation").fetchall()
        [[oldest_freed]] = connection.execute("SELECT min(allocated_at) FROM allocation WHERE freed_at > 0").fetchall()

    assert (oldest, 100_000 < rows < 101_002, oldest_freed > 999) == (0.0, True, True)
