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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from mdnp.dataplane.naming import GROUP
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, MdnpError, StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.model.network import Network
from mdnp.store import Change, Drop, Promises, Put
from mdnp.store.migrations import MIGRATIONS
from mdnp.store.rows import PUT_ENDPOINT, PUT_NETWORK, endpoint_of, endpoint_row, network_of, network_row

FILE = "mdnp.db"
LOCK = "mdnp.lock"

_APPLICATION_ID = GROUP  # "mdnp" in ASCII: tells our file from any other SQLite database

_Waiting = tuple[Sequence[Change], "asyncio.Future[None]"]


class SqliteStore:
    """Made by `open`; then the folder is this process's alone until `close`."""

    def __init__(self, lock: IO[str], connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._lock = lock
        self._connection = connection
        self._thread = thread
        self._waiting: deque[_Waiting] = deque()
        self._networks: dict[NetworkID, Network] = {}
        self._endpoints: dict[EndpointID, Endpoint] = {}
        self._promises = Promises(self._networks, self._endpoints)
        self._load()

    @classmethod
    async def open(cls, folder: Path, migrations: Sequence[str] = MIGRATIONS) -> "SqliteStore":
        """
        Open the store in `folder`, made if it is not there, and bring it to this program's schema.

        Errors: Conflict when another process has it; StoreUnavailable when it cannot be used, a newer schema
        included: then the file stays as it is.
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
            lock = _locked(folder / LOCK)
            try:
                _check(path, len(migrations))
                return cls(lock, _connect(path, migrations), thread)
            except BaseException:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"cannot use the state in {path}: {error}") from error

    @property
    def promises(self) -> Promises:
        return self._promises

    async def commit(self, *changes: Change) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, done))
        self._thread.submit(self._write_waiting, asyncio.get_running_loop())
        # Shielded: the transaction goes on when a caller is cancelled, and then memory must follow the disk.
        await asyncio.shield(done)

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

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that waits, in one transaction. Runs in the store's thread."""
        batch: list[_Waiting] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        if not batch:
            return
        try:
            outcomes = self._transaction([changes for changes, _ in batch])
        except sqlite3.Error as error:
            outcomes = [StoreUnavailable(f"cannot write the state: {error}; nothing was changed")] * len(batch)
        loop.call_soon_threadsafe(self._settle, batch, outcomes)

    def _transaction(self, batch: Sequence[Sequence[Change]]) -> Sequence[MdnpError | None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(changes) for changes in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def _apply(self, changes: Sequence[Change]) -> MdnpError | None:
        """The changes of one caller, all or none."""
        self._connection.execute("SAVEPOINT caller")
        try:
            for change in changes:
                self._connection.execute(*_statement(change))
        except sqlite3.IntegrityError as error:
            self._connection.execute("ROLLBACK TO caller")
            return Conflict(f"{', '.join(map(_described, changes))}: {error}; it was changed meanwhile, try again")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE caller")
        return None

    def _settle(self, batch: Sequence[_Waiting], outcomes: Sequence[MdnpError | None]) -> None:
        """Bring memory to what is on disk now, then tell the callers. Runs in the loop."""
        for (changes, done), error in zip(batch, outcomes, strict=True):
            if error is None:
                self._remember(changes)
            if done.cancelled():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Put(Network() as network):
                    self._networks[network.id] = network
                case Put(Endpoint() as endpoint):
                    self._endpoints[endpoint.id] = endpoint
                case Drop(Network() as network):
                    self._networks.pop(network.id, None)
                case Drop(Endpoint() as endpoint):
                    self._endpoints.pop(endpoint.id, None)


def _locked(path: Path) -> IO[str]:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise Conflict(
            f"the state in {path.parent} is in use by another mdnp (pid {owner or 'unknown'}): stop that one, or give"
            " this one a state folder of its own"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _check(path: Path, known: int) -> None:
    """Refuse a file that is not ours or newer than we are, by a connection that cannot change it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        connection.close()
    if application != _APPLICATION_ID:
        raise StoreUnavailable(f"{path} is a database, but not mdnp's: move it away, or choose another state folder")
    if version > known:
        raise StoreUnavailable(
            f"{path} has schema {version}, and this mdnp knows schemas up to {known}: a newer version wrote it."
            " Install that version again, or move the file away to start empty. Nothing was changed"
        )


def _connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    # isolation_level=None: transactions are ours to begin and end.
    connection = sqlite3.connect(path, isolation_level=None)
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
    return connection


def _statement(change: Change) -> tuple[str, Sequence[str | int]]:
    record = change.record
    if isinstance(change, Drop):
        table = "network" if isinstance(record, Network) else "endpoint"
        return f"DELETE FROM {table} WHERE id = ?", (record.id,)  # noqa: S608  # one of two words of ours
    if isinstance(record, Network):
        return PUT_NETWORK, network_row(record)
    return PUT_ENDPOINT, endpoint_row(record)


def _described(change: Change) -> str:
    kind = "network" if isinstance(change.record, Network) else "endpoint"
    return f"{kind} {short(change.record.id)}"
