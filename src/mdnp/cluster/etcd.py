"""
The contract on etcd v3, by its own protocol (3.4 and newer).

A watch has a stream of its own. That its server is alive is seen by progress requests on that stream: a frozen one
keeps its connections, and its kernel answers gRPC's own pings no more than it serves.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

import grpc
from google.protobuf.message import Message

from mdnp.cluster import (
    HEARTBEAT_S,
    SILENCE_S,
    Batch,
    Change,
    ClusterUnavailable,
    Compacted,
    Entry,
    Event,
    LeaseGone,
    Put,
    Snapshot,
    Unchanged,
)
from mdnp.cluster import rpc_pb2 as rpc
from mdnp.cluster.access import Access, Material
from mdnp.cluster.reasons import CANCELED, ENDED, Fault, reason
from mdnp.cluster.servers import (
    Failed,
    Metadata,
    Method,
    Server,
    Servers,
    asked,
    asked_by_stream,
    failing,
    limit,
    streamed,
)
from mdnp.model.etcd_url import EtcdURL

_PAGE = 2000  # keys: a page takes some milliseconds to read, and nobody else waits longer

_RANGE = Method("/etcdserverpb.KV/Range", rpc.RangeResponse)
_TXN = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse)
_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
_WATCH = Method("/etcdserverpb.Watch/Watch", rpc.WatchResponse)

_Stream = grpc.aio.StreamStreamCall[Message, rpc.WatchResponse]


class EtcdCluster:
    """To be made in the loop that uses it; see `access.connect`."""

    def __init__(self, urls: Sequence[EtcdURL], access: Access, material: Material) -> None:
        self._servers = Servers(urls, access, material)
        self._cluster = 0  # as of the last snapshot

    async def snapshot(self, prefix: str) -> Snapshot:
        """Page by page, each within the limit, all of the revision of the first."""
        while True:
            # Compacted between two pages, which happens once in minutes at most: read anew.
            with suppress(Failed):
                return await self._read(prefix)

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        by = limit()
        if self._servers.several and changes:
            # Find one that is well: what was sent to a frozen one must not be sent to another.
            await self._servers.ask(_RANGE, _single(changes[0].key), by=by)
        request = rpc.TxnRequest(compare=map(_compare, conditions), success=map(_operation, changes))
        with _leasing():
            answer = await self._servers.ask(_TXN, request, by=by, again=False)
        return answer.header.revision if answer.succeeded else None

    async def grant(self, ttl_s: int) -> int:
        return (await self._servers.ask(_GRANT, rpc.LeaseGrantRequest(TTL=ttl_s), by=limit())).ID

    async def keep_alive(self, lease: int) -> None:
        async def attempt(server: Server, metadata: Metadata) -> rpc.LeaseKeepAliveResponse:
            return await asked_by_stream(server, _KEEP_ALIVE, rpc.LeaseKeepAliveRequest(ID=lease), metadata)

        with _leasing():
            answer = await self._servers.first(attempt, by=limit())
        if answer.TTL <= 0:
            raise LeaseGone(f"lease {lease:x} has ended")

    async def revoke(self, lease: int) -> None:
        # Gone already is as good.
        with suppress(Failed):
            await self._servers.ask(_REVOKE, rpc.LeaseRevokeRequest(ID=lease), by=limit())

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        async def attempt(server: Server, metadata: Metadata) -> "_Watch":
            await self._check(server, metadata, prefix, after)
            watch = _Watch(server, streamed(server, _WATCH, metadata), after)
            try:
                await watch.begin(prefix)
            except BaseException:
                await watch.end()
                raise
            return watch

        watch = await self._servers.first(attempt, by=limit())
        try:
            while True:
                yield await watch.next()
        finally:
            await watch.end()

    async def close(self) -> None:
        await self._servers.close()

    async def _check(self, server: Server, metadata: Metadata, prefix: str, after: int) -> None:
        """
        That a server's data are those that `after` is a revision of, by a question which makes it catch up first: a
        watch of a member that lags behind begins with older data.

        Errors: Failed; Compacted.
        """
        header = (await asked(server, _RANGE, _single(prefix), metadata)).header
        if header.revision < after or (self._cluster and header.cluster_id != self._cluster):
            raise Compacted(f"{server.url} knows no revision {after}: its data were lost or put back")

    async def _read(self, prefix: str) -> Snapshot:
        entries: dict[str, Entry] = {}
        request = rpc.RangeRequest(key=_bytes(prefix), range_end=_after(prefix), limit=_PAGE)
        while True:
            answer = await self._servers.ask(_RANGE, request, by=limit())
            entries |= {_text(one.key): _entry(one) for one in answer.kvs}
            request.revision = request.revision or answer.header.revision
            if not answer.more:
                break
            request.key = answer.kvs[-1].key + b"\0"
        self._cluster = answer.header.cluster_id
        return Snapshot(self._cluster, request.revision, entries)


class _Watch:
    """
    A stream that tells what happened after `revision`, and moves it on.

    A progress answer says nothing of that: etcd before 3.4.25 gives it its newest revision although older events are
    still to come.
    """

    def __init__(self, server: Server, stream: _Stream, revision: int) -> None:
        self._server = server
        self._stream = stream
        self._revision = revision
        self._reading: asyncio.Future[rpc.WatchResponse] | None = None

    async def begin(self, prefix: str) -> None:
        """Errors: Failed; Compacted."""
        start = rpc.WatchCreateRequest(key=_bytes(prefix), range_end=_after(prefix), start_revision=self._revision + 1)
        with failing():
            await self._stream.write(rpc.WatchRequest(create_request=start))
        self._check(await self._said())

    async def next(self) -> Batch:
        """Errors: ClusterUnavailable, Compacted."""
        try:
            said = await self._said_in_time()
            self._check(said)
        except Failed as error:
            raise ClusterUnavailable(f"{self._server.url}: {reason(error.fault)}") from error
        events = tuple(map(_event, said.events))
        if events:
            self._revision = said.events[-1].kv.mod_revision
        return Batch(self._revision, events)

    async def end(self) -> None:
        self._stream.cancel()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _said_in_time(self) -> rpc.WatchResponse:
        """What comes next; it is asked for when nothing comes by itself."""
        for _ in range(round(SILENCE_S / HEARTBEAT_S)):
            self._reading = self._reading or asyncio.ensure_future(self._said())
            await asyncio.wait({self._reading}, timeout=HEARTBEAT_S)
            if self._reading.done():
                reading, self._reading = self._reading, None
                return _result(reading)
            # It is the reader that hears how a stream has ended.
            with suppress(TimeoutError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
        raise ClusterUnavailable(f"{self._server.url}: silent for {SILENCE_S:g} s: is it frozen, or cut off?")

    async def _said(self) -> rpc.WatchResponse:
        with failing():
            said = await self._stream.read()
        if not isinstance(said, rpc.WatchResponse):
            raise Failed(ENDED)
        return said

    def _check(self, said: rpc.WatchResponse) -> None:
        if said.compact_revision:
            raise Compacted(f"revision {self._revision} is compacted, up to {said.compact_revision}")
        if said.canceled:
            raise Failed(Fault(CANCELED, said.cancel_reason))


def _result(reading: "asyncio.Future[rpc.WatchResponse]") -> rpc.WatchResponse:
    if reading.cancelled():  # the stream was, by us
        raise Failed(ENDED)
    return reading.result()


@contextmanager
def _leasing() -> Iterator[None]:
    """The one fault that is an answer to whoever has a lease."""
    try:
        yield
    except Failed as error:
        raise LeaseGone("the lease has ended") from error


def _single(key: str) -> rpc.RangeRequest:
    """What costs a server nothing but to be well: whether there is a key, as of now."""
    return rpc.RangeRequest(key=_bytes(key), keys_only=True)


def _compare(condition: Unchanged) -> rpc.Compare:
    return rpc.Compare(
        result=rpc.Compare.EQUAL,
        target=rpc.Compare.MOD,
        key=_bytes(condition.key),
        mod_revision=condition.revision,
    )


def _operation(change: Change) -> rpc.RequestOp:
    key = _bytes(change.key)
    if isinstance(change, Put):
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=change.value, lease=change.lease))
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


def _event(event: rpc.Event) -> Event:
    return Event(_text(event.kv.key), None if event.type == rpc.Event.DELETE else _entry(event.kv))


def _entry(pair: rpc.KeyValue) -> Entry:
    return Entry(pair.value, pair.mod_revision)


def _bytes(key: str) -> bytes:
    return key.encode()


def _text(key: bytes) -> str:
    """None of ours needs replacing; what a hand has put there must not end a snapshot."""
    return key.decode(errors="backslashreplace")


def _after(prefix: str) -> bytes:
    """The first key that is greater than all with the prefix. A key of ours never ends in the last byte."""
    key = _bytes(prefix)
    return key[:-1] + bytes([key[-1] + 1])
