"""
Answers questions of names on sockets: at once what the zones of whoever asks have, and the rest from its upstream, for
which no answer of a zone ever waits.

Only who has a scope is answered: to anybody else nothing is sent, so that a forged source gets nothing from us.
"""

import asyncio
import logging
import socket
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address
from typing import Any

from mdnp.dns import Scope, Scopes, Served, Unanswered, Upstream, messages
from mdnp.dns.askers import Asker, Askers, Limits
from mdnp.dns.conversation import Conversation, Outcome
from mdnp.dns.messages import QUERY_OCTETS, REFUSED, SERVFAIL, Query, Refusal
from mdnp.model.network import IPAddress

log = logging.getLogger(__name__)

_BURST = 32  # datagrams read before others have their turn
_ACCEPT_AGAIN_S = 1.0  # when descriptors or memory have run out
_SILENCE_S = 60.0  # between two lines of the log about errors of one kind
_LIMITS = Limits()


class Server:
    """Several pairs of sockets may be served at once, with the limits and counts in common."""

    def __init__(self, scopes: Scopes, limits: Limits = _LIMITS) -> None:
        self._scopes = scopes
        self._limits = limits
        self._askers = Askers(limits)
        self._logged: dict[str, float] = {}
        self._zone = self._forwarded = self._unanswered = self._dropped = 0

    @property
    def served(self) -> Served:
        return Served(self._zone, self._forwarded, self._unanswered, self._dropped)

    async def serve(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """
        Until cancelled. Both are non-blocking and bound to one address (from one that is bound to all, an answer may
        leave with another address than was asked); `streams` listens. They stay the caller's, who closes them after.
        """
        loop = asyncio.get_running_loop()
        number = datagrams.fileno()
        async with TaskGroup() as tasks:
            loop.add_reader(number, self._receive, datagrams, tasks)
            try:
                await self._accept(streams, tasks)
            finally:
                loop.remove_reader(number)

    def _receive(self, datagrams: socket.socket, tasks: TaskGroup) -> None:
        try:
            for _ in range(_BURST):
                packet, source = datagrams.recvfrom(QUERY_OCTETS + 1)
                outcome = self._outcome(packet, source, stream=False)
                if isinstance(outcome, bytes):
                    self._send(datagrams, outcome, source)
                elif outcome is not None:
                    tasks.create_task(self._send_later(datagrams, outcome, source))
        except BlockingIOError:
            pass
        except Exception as error:  # noqa: BLE001  # whatever it is, the next question is answered
            self._complain(error)

    def _send(self, datagrams: socket.socket, answer: bytes, source: Any) -> None:
        try:
            datagrams.sendto(answer, source)
        except OSError as error:  # it is gone, or asks faster than it reads
            self._dropped += 1
            self._complain(error)

    async def _send_later(self, datagrams: socket.socket, answer: Callable[[], Awaitable[bytes]], source: Any) -> None:
        self._send(datagrams, await answer(), source)

    async def _accept(self, streams: socket.socket, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, source = await loop.sock_accept(streams)
            except ConnectionError:
                continue  # it was gone before
            except OSError as error:
                self._complain(error)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            tasks.create_task(self._converse(connection, source))

    async def _converse(self, connection: socket.socket, source: Any) -> None:
        """With who may ask and has not too many connections; all others are hung up on."""
        with connection:
            asker = self._welcome(source)
            if asker is None or not self._askers.connect(asker):
                self._dropped += 1
                return
            try:
                conversation = Conversation(connection, self._limits.idle_s, QUERY_OCTETS)
                await conversation.run(lambda packet: self._outcome(packet, source, stream=True))
            except Exception as error:  # noqa: BLE001  # only this connection ends
                self._complain(error)
            finally:
                self._askers.disconnect(asker)

    def _welcome(self, source: Any) -> Asker | None:
        address = _address(source[0])
        return None if self._scope(address) is None else self._askers.of(address, asyncio.get_running_loop().time())

    def _outcome(self, packet: bytes, source: Any, *, stream: bool) -> Outcome:
        """A source is what a socket calls it: (host, port, …). Nobody can be answered at port 0."""
        address = _address(source[0])
        scope = self._scope(address) if source[1] else None
        query = None
        if scope is not None:
            now = asyncio.get_running_loop().time()
            asker = self._askers.of(address, now)
            query = messages.parse(packet) if asker.take(now, self._limits.questions_per_s) else None
        if scope is None or query is None:
            self._dropped += 1
            return None
        return query.reply if isinstance(query, Refusal) else self._found(query, scope, asker, stream=stream)

    def _scope(self, address: IPAddress) -> Scope | None:
        try:
            return self._scopes(address)
        except Exception as error:  # noqa: BLE001  # who is not known is not answered
            self._complain(error)
            return None

    def _found(self, query: Query, scope: Scope, asker: Asker, *, stream: bool) -> Outcome:
        try:
            answer = scope.finder.find(query.question)
            if answer is not None and not (answer.left and scope.embedded):
                said = messages.reply(query, answer, messages.limit(query, stream=stream))
                self._zone += 1
                return said
        except Exception as error:  # noqa: BLE001  # nor may it go on to others: it may be a name of ours
            self._complain(error)
            self._unanswered += 1
            return messages.failure(query, SERVFAIL)
        if scope.upstream is None:
            return messages.failure(query, REFUSED)
        if asker.under_way >= self._limits.under_way:
            self._dropped += 1
            return None
        limit = messages.limit(query, stream=stream, local=scope.embedded)
        return partial(self._forward, query, scope.upstream, asker, limit=limit, stream=stream)

    async def _forward(self, query: Query, upstream: Upstream, asker: Asker, *, limit: int, stream: bool) -> bytes:
        asker.under_way += 1  # here, since what is cancelled before its start would never end; a burst may exceed it
        try:
            answer = await upstream.ask(query.packet, stream=stream)
        except Exception as error:  # noqa: BLE001  # who asks is told at once, and may ask another
            self._unanswered += 1
            if not isinstance(error, Unanswered):
                self._complain(error)
            return messages.failure(query, SERVFAIL)
        finally:
            asker.under_way -= 1
        self._forwarded += 1
        return messages.fitting(answer, query, limit)

    def _complain(self, error: Exception) -> None:
        """Once in a while for each kind of error: who can cause one can cause many."""
        now = asyncio.get_running_loop().time()
        kind = type(error).__name__
        if now - self._logged.get(kind, -_SILENCE_S) >= _SILENCE_S:
            self._logged[kind] = now
            log.warning("a question of names was not answered: %r", error, exc_info=not isinstance(error, OSError))


@lru_cache(maxsize=4096)
def _address(host: str) -> IPAddress:
    """Without the zone of a link-local one, and as IPv4 what a socket for both families calls ::ffff:…"""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
