"""
The servers of a cluster: a channel to each, one asked at a time, and the next when it is of no use.

With the token of our user, where users are asked for; it is fetched when a server asks who we are.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from mdnp.cluster import LIMIT_S, ClusterUnavailable
from mdnp.cluster import rpc_pb2 as rpc
from mdnp.cluster.access import Access, Material, read_password
from mdnp.cluster.reasons import ENDED, TIMED_OUT, Fault, reason
from mdnp.model.errors import InvalidParameter
from mdnp.model.etcd_url import EtcdURL

Answer = TypeVar("Answer", bound=Message)
Result = TypeVar("Result")
Metadata = tuple[tuple[str, str], ...]

# A server that has no leader answers nothing, instead of what it knew when it was cut off.
_LED: Metadata = (("hasleader", "true"),)
_DISABLED = "authentication is not enabled"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # a watch that resumes may hear a lot at once
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # A server that is back must be found at once: tried each second, for a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A connection that a partition has cut ends. More often than each 5 s etcd does not take it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)


@dataclass(frozen=True)
class Method(Generic[Answer]):
    path: str
    answer: type[Answer]


class Failed(Exception):
    """A call that came to nothing."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True)
class Server:
    url: EtcdURL
    channel: grpc.aio.Channel


# What is tried on one server, with this metadata. Errors: Failed.
Attempt = Callable[[Server, Metadata], Awaitable[Result]]

_AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)


class Servers:
    def __init__(self, urls: Sequence[EtcdURL], access: Access, material: Material) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is told by us, once, in words
        self._access = access
        self._servers = [Server(url, _channel(url, material)) for url in urls]
        self._token = ""
        self._authenticating = asyncio.Lock()

    @property
    def several(self) -> bool:
        return len(self._servers) > 1

    async def first(self, attempt: Attempt[Result], *, by: float, again: bool = True) -> Result:
        """
        What the first server gives that gives anything: the one that did so last, then the others, until `by`, in the
        loop's time. `again` says that it does no harm to do it twice.

        Errors: ClusterUnavailable; Failed for a fault that is an answer.
        """
        faults: dict[EtcdURL, Fault] = {}
        order = tuple(self._servers)
        for server in order:
            try:
                # Half of what is left: a frozen one must leave time for the next.
                async with asyncio.timeout_at(_half(by) if again and server is not order[-1] else by):
                    result = await self._admitted(server, attempt)
            except Failed as error:
                faults[server.url] = error.fault
            except TimeoutError:
                faults[server.url] = TIMED_OUT
            else:
                self._prefer(server)
                return result
            if faults[server.url].is_answer:
                raise Failed(faults[server.url])
            if not again and not faults[server.url].not_done:
                break
        raise self._unavailable(faults)

    async def ask(self, method: Method[Answer], request: Message, *, by: float, again: bool = True) -> Answer:
        """The answer to one question. Errors: as of `first`."""

        async def attempt(server: Server, metadata: Metadata) -> Answer:
            return await asked(server, method, request, metadata)

        return await self.first(attempt, by=by, again=again)

    async def close(self) -> None:
        for one in self._servers:
            await one.channel.close()

    def _prefer(self, server: Server) -> None:
        if server is not self._servers[0]:
            self._servers.sort(key=lambda one: one is not server)

    def _unavailable(self, faults: dict[EtcdURL, Fault]) -> ClusterUnavailable:
        told = [f"{one.url}: {reason(faults[one.url])}" for one in self._servers if one.url in faults]
        others = [str(one.url) for one in self._servers if one.url not in faults]
        rest = f"; not asked: {', '.join(others)}" if others else ""
        return ClusterUnavailable(f"no etcd is of use: {'; '.join(told)}{rest}")

    async def _admitted(self, server: Server, attempt: Attempt[Result]) -> Result:
        token = self._token
        try:
            return await attempt(server, self._metadata())
        except Failed as error:
            if not self._access.user or not error.fault.asks_who:
                raise
        async with self._authenticating:
            if token == self._token:  # else another call has just fetched it
                self._token = await self._authenticated(server)
        return await attempt(server, self._metadata())

    def _metadata(self) -> Metadata:
        return (*_LED, ("token", self._token)) if self._token else _LED

    async def _authenticated(self, server: Server) -> str:
        """A token; "" of a server that no longer asks for users. The file is read anew: it may have been changed."""
        try:
            password = read_password(self._access)
            request = rpc.AuthenticateRequest(name=self._access.user, password=password)
            return (await asked(server, _AUTHENTICATE, request, _LED)).token
        except InvalidParameter as error:
            raise Failed(Fault("UNAUTHENTICATED", str(error))) from error
        except Failed as error:
            if _DISABLED in error.fault.said:
                return ""
            raise


def limit() -> float:
    """When a call that begins now must end, in the loop's time."""
    return asyncio.get_running_loop().time() + LIMIT_S


async def asked(server: Server, method: Method[Answer], request: Message, metadata: Metadata) -> Answer:
    """Errors: Failed."""
    call = server.channel.unary_unary(
        method.path, request_serializer=_written, response_deserializer=method.answer.FromString
    )
    with failing():
        return await call(request, metadata=metadata)


async def asked_by_stream(server: Server, method: Method[Answer], request: Message, metadata: Metadata) -> Answer:
    """The one answer on a stream to a question on a stream. Errors: Failed."""
    call = server.channel.unary_stream(
        method.path, request_serializer=_written, response_deserializer=method.answer.FromString
    )
    with failing():
        answers = [one async for one in call(request, metadata=metadata)]
    if not answers:
        raise Failed(ENDED)
    return answers[0]


def streamed(server: Server, method: Method[Answer], metadata: Metadata) -> grpc.aio.StreamStreamCall[Message, Answer]:
    call = server.channel.stream_stream(
        method.path, request_serializer=_written, response_deserializer=method.answer.FromString
    )
    return call(metadata=metadata)


@contextmanager
def failing() -> Iterator[None]:
    """gRPC's error, said as ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Failed(Fault(error.code().name, error.details() or "")) from error


def _written(message: Message) -> bytes:
    return message.SerializeToString()


def _half(by: float) -> float:
    now = asyncio.get_running_loop().time()
    return now + (by - now) / 2


def _channel(url: EtcdURL, material: Material) -> grpc.aio.Channel:
    if not url.tls:
        return grpc.aio.insecure_channel(url.authority, _OPTIONS)
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    return grpc.aio.secure_channel(url.authority, credentials, _OPTIONS)
