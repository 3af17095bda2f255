"""
The store in SQLite: one connection in one thread, write-ahead log, `synchronous=FULL`.

One connection, because SQLite before 3.51.3 can damage a write-ahead log that two connections write at once. Changes
that arrive while one transaction is being synced to disk go into the next one together: a sync costs the same for one
as for twenty.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from mdnp.dataplane.naming import GROUP
from mdnp.model.allocation import Record
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, Damaged, InvalidParameter, MdnpError, StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called
from mdnp.model.network import Network
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.model.segment import Block
from mdnp.store import Change, Drop, Known, Promises, Put, Tenure, wal
from mdnp.store.migrations import MIGRATIONS
from mdnp.store.rows import (
    ALLOCATIONS,
    HISTORY,
    Promise,
    Row,
    block_of,
    called_of,
    described,
    endpoint_of,
    known_of,
    network_of,
    pool_of,
    record_of,
    statement,
    tenure_of,
)

FILE = "mdnp.db"
_LOG = "-wal"  # SQLite's own names
_SIDE_FILES = ("", _LOG, "-shm")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
LOCK = "mdnp.lock"
_OFFSHOOTS = (f"{FILE}-", f"{FILE}.")

_APPLICATION_ID = GROUP  # "mdnp" in ASCII: tells our file from any other SQLite database

# What a record raises that is not as this version writes it: a value of a later one, or a hand's work.
_UNREADABLE = (ValueError, LookupError, TypeError, msgspec.MsgspecError)

_Waiting = tuple[Sequence[Change], "asyncio.Future[None]"]


class SqliteStore:
    """Made by `open`; then the folder is this process's alone until `close`."""

    def __init__(self, lock: IO[bytes], connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._lock = lock
        self._connection = connection
        self._thread = thread
        self._waiting: deque[_Waiting] = deque()
        self._called = False  # the thread is called, and has not looked at what waits yet
        self._networks: dict[NetworkID, Network] = {}
        self._endpoints: dict[EndpointID, Endpoint] = {}
        self._pools: dict[PoolID, PoolPromise] = {}
        self._blocks: dict[str, Block] = {}
        self._names: dict[str, Called] = {}
        self._promises = Promises(self._networks, self._endpoints, self._pools, self._blocks, self._names)
        self._heeding: list[Callable[[], None]] = []
        self.is_new = False  # nothing was ever written to it
        self.trouble = ""
        self._load()

    @classmethod
    async def set_aside(cls, folder: Path, name: str) -> Path:
        """Move a database that cannot be read out of the way, with its log; its new name is mdnp.db.NAME."""
        return await asyncio.to_thread(_set_aside, folder, name)

    @staticmethod
    def size(folder: Path) -> int:
        """Bytes of the database in `folder`, with its log."""
        total = 0
        for suffix in _SIDE_FILES:
            with suppress(OSError):
                total += (folder / f"{FILE}{suffix}").stat().st_size
        return total

    @classmethod
    async def open(cls, folder: Path, migrations: Sequence[str] = MIGRATIONS) -> "SqliteStore":
        """
        Open the store in `folder`, made if it is not there, and bring it to this program's schema.

        Errors: Conflict when another process has it; Damaged when the file cannot be read as a database; else
        StoreUnavailable when it cannot be used, a newer schema included. The file stays as it is.
        """
        thread = ThreadPoolExecutor(1, "mdnp-store")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, cls._open, folder, migrations, thread)
        except BaseException:
            thread.shutdown()
            raise

    @classmethod
    def _open(cls, folder: Path, migrations: Sequence[str], thread: ThreadPoolExecutor) -> "SqliteStore":
        path = folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = undo.enter_context(_locked(folder / LOCK))
                _check(path, len(migrations))
                # isolation_level=None: transactions are ours to begin and end.
                connection = undo.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
                is_new = _prepare(connection, path, migrations)
                store = cls(lock, connection, thread)
                store.is_new = is_new
                undo.pop_all()
                return store
        except sqlite3.DatabaseError as error:
            kind = Damaged if getattr(error, "sqlite_errorname", "") in _DAMAGED else StoreUnavailable
            raise kind(f"cannot use the state in {path}: {error}") from error
        except (OSError, sqlite3.Error, *_UNREADABLE) as error:
            raise StoreUnavailable(f"cannot use the state in {path}: {error}") from error

    def heed(self, heard: Callable[[], None]) -> None:
        """Call this in the loop after each change of what is promised."""
        self._heeding.append(heard)

    @property
    def promises(self) -> Promises:
        return self._promises

    async def commit(self, *changes: Change) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((changes, done))
        if not self._called:
            self._called = True
            self._thread.submit(self._write_waiting, loop)
        # A caller that is cancelled here gives up its answer, not its changes: they are settled all the same.
        await done

    async def allocations(self, pool: PoolID) -> Sequence[Record]:
        return [record_of(row) for row in await self._read(ALLOCATIONS, {"pool": pool})]

    async def history(self, name: str) -> Sequence[Tenure]:
        return [tenure_of(row) for row in await self._read(HISTORY, {"name": name})]

    async def fact(self, name: str, first: str) -> str:
        await self._read("INSERT OR IGNORE INTO fact VALUES (:name, :value)", {"name": name, "value": first})
        [[value]] = await self._read("SELECT value FROM fact WHERE name = :name", {"name": name})
        return str(value)

    async def known(self) -> Sequence[Known]:
        return [known_of(row) for row in await self._read("SELECT key, value, revision FROM known", {})]

    async def forget_known(self) -> None:
        await self._read("DELETE FROM known", {})

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._lock.close()

    def _load(self) -> None:
        for row in self._connection.execute("SELECT * FROM network"):
            network = network_of(row)
            self._networks[network.id] = network
        for row in self._connection.execute("SELECT * FROM endpoint"):
            endpoint = endpoint_of(row)
            self._endpoints[endpoint.id] = endpoint
        for row in self._connection.execute("SELECT * FROM pool"):
            promise = pool_of(row)
            self._pools[promise.id] = promise
        for row in self._connection.execute("SELECT * FROM block"):
            block = block_of(row)
            self._blocks[block.id] = block
        for row in self._connection.execute("SELECT * FROM called"):
            called = called_of(row)
            self._names[called.id] = called

    async def _read(self, query: str, values: Mapping[str, str]) -> list[Row]:
        def rows() -> list[Row]:
            return self._connection.execute(query, values).fetchall()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, rows)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"cannot read the state: {error}") from error

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that waits, in one transaction. Runs in the store's thread."""
        self._called = False  # before looking: who comes now either is seen below or calls again
        batch: list[_Waiting] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        if not batch:
            return
        try:
            outcomes = self._transaction([changes for changes, _ in batch])
        except (sqlite3.Error, ValueError) as error:  # ValueError: a text that is no UTF-8
            outcomes = [StoreUnavailable(f"cannot write the state: {error}; nothing was changed")] * len(batch)
        loop.call_soon_threadsafe(self._settle, batch, outcomes)

    def _transaction(self, batch: Sequence[Sequence[Change]]) -> Sequence[MdnpError | None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(changes) for changes in batch]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def _apply(self, changes: Sequence[Change]) -> MdnpError | None:
        """The changes of one caller, all or none. A statement that fails undoes itself, so one needs no savepoint."""
        try:
            if len(changes) == 1:
                self._connection.execute(*statement(changes[0]))
            else:
                self._apply_together(changes)
        except sqlite3.IntegrityError as error:
            return Conflict(f"{', '.join(map(described, changes))}: {error}; it was changed meanwhile, try again")
        except (ValueError, OverflowError) as error:  # what Python cannot hand to SQLite, as half a surrogate pair
            return InvalidParameter(f"{', '.join(map(described, changes))} cannot be written down: {error}")
        return None

    def _apply_together(self, changes: Sequence[Change]) -> None:
        self._connection.execute("SAVEPOINT caller")
        try:
            for change in changes:
                self._connection.execute(*statement(change))
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO caller")
            raise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE caller")

    def _settle(self, batch: Sequence[_Waiting], outcomes: Sequence[MdnpError | None]) -> None:
        """Bring memory to what is on disk now, then tell the callers. Runs in the loop."""
        self.trouble = next((str(error) for error in outcomes if isinstance(error, StoreUnavailable)), "")
        heard = False
        for (changes, done), error in zip(batch, outcomes, strict=True):
            if error is None and self._remember(changes):
                heard = True
            if done.cancelled():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        for hear in self._heeding if heard else ():
            hear()

    def _remember(self, changes: Sequence[Change]) -> bool:
        """Whether a promise was among them; the rest is others' to remember."""
        for change in changes:
            match change:
                case Put(record):
                    self._kept(record)[record.id] = record
                case Drop(record):
                    self._kept(record).pop(record.id, None)
        return any(isinstance(one, Put | Drop) for one in changes)

    def _kept(self, record: Promise) -> dict[Any, Any]:
        """The part of memory that has records of this kind, by id."""
        kept: dict[type[Promise], dict[Any, Any]] = {
            Network: self._networks,
            Endpoint: self._endpoints,
            PoolPromise: self._pools,
            Block: self._blocks,
            Called: self._names,
        }
        return kept[type(record)]


def files(folder: Path) -> list[Path]:
    """All that a store ever wrote in its folder, what was set aside included."""
    return sorted(path for path in folder.glob("*") if path.name in (FILE, LOCK) or path.name.startswith(_OFFSHOOTS))


@contextmanager
def forgetting(folder: Path) -> Iterator[None]:
    """
    Have the folder alone, as a daemon has it; at a good end of the block all that stores wrote there is gone.

    Errors: Conflict when another process has it; StoreUnavailable when files cannot be removed.
    """
    if not folder.is_dir():
        yield
        return
    with _locked(folder / LOCK):
        yield
        try:
            for path in files(folder):
                path.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            raise StoreUnavailable(f"cannot remove the state in {folder}: {error}") from error


def _set_aside(folder: Path, name: str) -> Path:
    aside = folder / f"{FILE}.{name}"
    for suffix in _SIDE_FILES:
        with suppress(FileNotFoundError):
            (folder / f"{FILE}{suffix}").rename(folder / f"{aside.name}{suffix}")
    return aside


def _locked(path: Path) -> IO[bytes]:
    lock = path.open("ab+", buffering=0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().decode(errors="replace").strip()
        lock.close()
        raise Conflict(
            f"the state in {path.parent} is in use by another mdnp (pid {owner or 'unknown'}): stop that one, or give"
            " this one a state folder of its own"
        ) from error
    with suppress(OSError):  # a full disk; who has the lock is only told to people
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n".encode())
    return lock


def _check(path: Path, known: int) -> None:
    """Refuse a file that is not ours or newer than we are, by a connection that cannot change it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    _check_log(path.with_name(f"{path.name}{_LOG}"))
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        connection.close()
    if found != "ok":
        raise Damaged(f"cannot use the state in {path}: {found}")
    if application != _APPLICATION_ID:
        raise StoreUnavailable(f"{path} is a database, but not mdnp's: move it away, or choose another state folder")
    if version > known:
        raise StoreUnavailable(
            f"{path} has schema {version}, and this mdnp knows schemas up to {known}: a newer version wrote it."
            " Install that version again, or move the file away to start empty. Nothing was changed"
        )


def _check_log(path: Path) -> None:
    """The head is on disk before what follows it: a log with more than a head and without one was damaged later."""
    if path.exists() and path.stat().st_size > wal.HEAD_SIZE:
        with path.open("rb") as log:
            if not wal.is_head(log.read(wal.HEAD_SIZE)):
                raise Damaged(f"cannot use the state in {path}: the log does not begin as one")


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> bool:
    """Bring the file to our schema; whether it had none."""
    path.chmod(0o600)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(migrations[version:], start=version + 1):
        # executescript runs in autocommit: the transaction must stand in the script.
        connection.executescript(
            f"BEGIN; {script}; PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={number}; COMMIT;"
        )
    return bool(version == 0)
