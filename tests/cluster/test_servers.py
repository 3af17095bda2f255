"""Which server is asked, and how often; without any that runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from mdnp.cluster import ClusterUnavailable
from mdnp.cluster.access import Access, Material
from mdnp.cluster.reasons import COMPACTED, TIMED_OUT, Fault
from mdnp.cluster.servers import Failed, Metadata, Server, Servers, limit
from mdnp.model.etcd_url import EtcdURL

A, B, C = (EtcdURL(name, 2379, tls=False) for name in "abc")
REFUSED = Fault("UNAVAILABLE", "failed to connect to all addresses; last error: ... Connection refused")
BROKEN = Fault("UNAVAILABLE", "Socket closed")
NO_LEADER = Fault("UNAVAILABLE", "etcdserver: no leader")


class Play:
    """What each server does when it is asked, and who was."""

    def __init__(self) -> None:
        self.faults: Mapping[EtcdURL, Fault] = {}
        self.asked: list[EtcdURL] = []

    async def __call__(self, server: Server, _: Metadata) -> EtcdURL:
        self.asked.append(server.url)
        if fault := self.faults.get(server.url):
            raise Failed(fault)
        return server.url


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    servers = Servers([A, B, C], Access(), Material(None, None, None))
    yield servers
    await servers.close()


async def test_who_answered_last_is_asked_first(servers: Servers, play: Play) -> None:
    assert await servers.first(play, by=limit()) == A
    play.faults = {A: REFUSED}
    assert await servers.first(play, by=limit()) == B
    play.faults = {}
    assert await servers.first(play, by=limit()) == B
    assert play.asked == [A, A, B, B]


@pytest.mark.parametrize("fault", [REFUSED, NO_LEADER, Fault("UNAVAILABLE", "errors resolving a: …")])
async def test_a_change_goes_to_the_next_if_the_first_did_nothing_for_sure(
    servers: Servers, play: Play, fault: Fault
) -> None:
    play.faults = {A: fault}

    assert await servers.first(play, by=limit(), again=False) == B


@pytest.mark.parametrize("fault", [BROKEN, TIMED_OUT, Fault("UNAVAILABLE", "etcdserver: request timed out")])
async def test_a_change_that_may_have_been_made_is_not_made_again(servers: Servers, play: Play, fault: Fault) -> None:
    play.faults = {A: fault}

    with pytest.raises(ClusterUnavailable, match=r"; not asked: http://b:2379, http://c:2379$"):
        await servers.first(play, by=limit(), again=False)
    assert play.asked == [A]
    assert await servers.first(play, by=limit()) == B  # a question may be asked again


async def test_what_all_would_answer_is_not_asked_of_all(servers: Servers, play: Play) -> None:
    play.faults = {A: Fault("OUT_OF_RANGE", f"etcdserver: mvcc: {COMPACTED}")}

    with pytest.raises(Failed):
        await servers.first(play, by=limit())
    assert play.asked == [A]


async def test_one_that_says_nothing_leaves_time_for_the_others(servers: Servers) -> None:
    async def attempt(server: Server, _: Metadata) -> EtcdURL:
        if server.url != C:
            await asyncio.Event().wait()
        return server.url

    assert await servers.first(attempt, by=limit()) == C


async def test_all_are_named_in_the_order_of_asking(servers: Servers, play: Play) -> None:
    play.faults = {A: REFUSED, B: NO_LEADER, C: TIMED_OUT}

    with pytest.raises(ClusterUnavailable) as caught:
        await servers.first(play, by=limit())

    assert str(caught.value) == (
        "no etcd is of use: http://a:2379: connection refused: nobody listens there; http://b:2379: no leader: most"
        " members of its cluster are down, or it is cut off from them; http://c:2379: no answer in time"
    )
