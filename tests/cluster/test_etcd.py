"""What only a real etcd has: several members, certificates, users, and the reasons why it is of no use."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mdnp.cluster import LIMIT_S, SILENCE_S, Cluster, ClusterUnavailable, LeaseGone, Put, Unchanged
from mdnp.cluster.access import Access, connect
from mdnp.model.etcd_url import parse_etcd_url
from rig.etcd import Etcd, User, authority, joined
from tests.cluster.conftest import Maker
from tests.cluster.grounds import client

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

P, A = "/mdnp/v1/", "/mdnp/v1/a"
PATIENCE_S = 20.0

Result = TypeVar("Result")


@asynccontextmanager
async def connected(*etcds: Etcd, access: Access | None = None) -> AsyncIterator[Cluster]:
    cluster = client(*etcds, access=access)
    try:
        yield cluster
    finally:
        await cluster.close()


async def put(cluster: Cluster) -> int:
    revision = await cluster.commit([], [Put(A, b"1")])
    assert revision is not None
    return revision


async def refusal(call: Coroutine[Any, Any, object]) -> str:
    """Why the call, which ends in time, is refused."""
    async with asyncio.timeout(LIMIT_S + 0.5):
        with pytest.raises(ClusterUnavailable) as caught:
            await call
    return str(caught.value)


async def eventually(call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """What the call gives as soon as a server answers; an election takes its time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except ClusterUnavailable:
                await asyncio.sleep(0.05)


async def refused_for(reason: str, call: Callable[[], Coroutine[Any, Any, object]]) -> str:
    """The refusal of the call, as soon as it has this reason."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            said = await refusal(call())
            if reason in said:
                return said
            await asyncio.sleep(0.05)


async def ended(cluster: Cluster, after: int) -> str:
    """Why a watch ends."""
    with pytest.raises(ClusterUnavailable) as caught:
        async for _ in cluster.watch(P, after):
            pass
    return str(caught.value)


# Several members.


@pytest.fixture
def trio(make_etcd: Maker) -> tuple[Etcd, ...]:
    """The leader is the last."""
    members = tuple(make_etcd(port=2379 + 10 * number) for number in range(3))
    joined(*members)
    return tuple(sorted(members, key=leads))


def leads(member: Etcd) -> bool:
    [told] = json.loads(member.ctl("endpoint", "status", "--write-out=json").out)
    return bool(told["Status"]["leader"] == told["Status"]["header"]["member_id"])


async def test_the_next_member_is_asked_when_one_has_ended(trio: tuple[Etcd, ...]) -> None:
    async with connected(*trio) as cluster:
        first = await put(cluster)
        trio[0].kill()

        assert await put(cluster) == first + 1
        assert (await cluster.snapshot(P)).entries[A].revision == first + 1
        lease = await cluster.grant(60)
        await cluster.keep_alive(lease)


@pytest.mark.parametrize("call", ["snapshot", "commit", "keep_alive", "watch"])
async def test_the_next_member_is_asked_in_time_when_one_is_frozen(trio: tuple[Etcd, ...], call: str) -> None:
    async with connected(*trio) as cluster:
        lease = await cluster.grant(60)
        first = await put(cluster)
        trio[0].freeze()
        async with asyncio.timeout(LIMIT_S + 0.5):
            match call:
                case "snapshot":
                    assert (await cluster.snapshot(P)).revision == first
                case "commit":
                    assert await put(cluster) == first + 1
                case "keep_alive":
                    await cluster.keep_alive(lease)
                case _:
                    watch = cluster.watch(P, first - 1)
                    assert (await anext(watch)).revision == first
                    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watch_goes_on_at_another_member(trio: tuple[Etcd, ...]) -> None:
    async with connected(*trio) as cluster:
        first = await put(cluster)
        watch = cluster.watch(P, first - 1)
        assert (await anext(watch)).revision == first
        trio[0].kill()
        with pytest.raises(ClusterUnavailable, match=trio[0].url):
            await anext(watch)
        second = await put(cluster)

        again = cluster.watch(P, first)
        assert (await anext(again)).revision == second
        await again.aclose()  # type: ignore[attr-defined]


async def test_a_member_that_is_cut_off_from_the_others_is_of_no_use(trio: tuple[Etcd, ...]) -> None:
    async with connected(trio[0]) as cluster:
        first = await put(cluster)
        watch = cluster.watch(P, first - 1)
        assert (await anext(watch)).revision == first
        for one in trio[1:]:
            one.kill()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ClusterUnavailable, match="no leader"):
                async for _ in watch:
                    pass

    async with connected(*trio) as cluster:
        said = await refused_for("no leader", lambda: cluster.commit([], [Put(A, b"2")]))
        assert f"{trio[0].url}: no leader" in said
        assert f"{trio[1].url}: connection refused" in said
        assert f"{trio[2].url}: connection refused" in said
        assert "no leader" in await refused_for("no leader", lambda: ended_as_call(cluster, first))

        trio[1].start(wait=False)
        await eventually(lambda: cluster.commit([Unchanged(A, first)], [Put(A, b"2")]))
        assert (await eventually(lambda: cluster.snapshot(P))).entries[A].value == b"2"


async def ended_as_call(cluster: Cluster, after: int) -> None:
    async for _ in cluster.watch(P, after):
        pass


async def test_leases_outlive_their_leader(trio: tuple[Etcd, ...]) -> None:
    async with connected(*trio) as cluster:
        lease = await cluster.grant(5)
        await cluster.commit([], [Put(A, b"1", lease)])
        trio[2].freeze()
        await eventually(lambda: cluster.keep_alive(lease))

        assert A in (await eventually(lambda: cluster.snapshot(P))).entries
        trio[2].thaw()
        await eventually(lambda: cluster.keep_alive(lease))


# What is wrong, in words.


async def test_each_server_is_named_with_the_reason(make_etcd: Maker) -> None:
    etcd = make_etcd()
    etcd.start()
    urls = ("http://127.0.0.1:1", "http://nobody.invalid", "http://192.0.2.1:2379")
    cluster = connect([parse_etcd_url(one) for one in urls], Access())

    said = await refusal(cluster.snapshot(P))

    assert said.startswith("no etcd is of use: http://127.0.0.1:1: connection refused: nobody listens there; ")
    assert "http://nobody.invalid:2379: its name cannot be looked up: " in said
    assert "http://192.0.2.1:2379: Network is unreachable" in said
    await cluster.close()


async def test_one_that_is_frozen_does_not_answer_in_time(make_etcd: Maker) -> None:
    etcd = make_etcd()
    etcd.start()
    async with connected(etcd) as cluster:
        first = await put(cluster)
        etcd.freeze()

        for call in (cluster.snapshot(P), put(cluster), cluster.grant(5), cluster.keep_alive(1), cluster.revoke(1)):
            assert f"{etcd.url}: no answer in time" in await refusal(call)
        assert f"{etcd.url}: no answer in time" in await refusal(ended_as_call(cluster, first))


async def test_a_frozen_server_is_silent_to_its_watches(make_etcd: Maker) -> None:
    etcd = make_etcd()
    etcd.start()
    async with connected(etcd) as cluster:
        watching = asyncio.ensure_future(ended(cluster, await put(cluster)))
        await asyncio.sleep(0.5)
        etcd.freeze()
        async with asyncio.timeout(SILENCE_S + 1):
            assert f"{etcd.url}: silent for 3 s" in await watching


async def test_a_full_database_is_named(make_etcd: Maker) -> None:
    etcd = make_etcd(options=("--quota-backend-bytes=200000",))
    etcd.start()
    async with connected(etcd) as cluster:
        large = [Put(A, b"x" * 100_000)]
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ClusterUnavailable):
                while await cluster.commit([], large):
                    pass

        assert f"{etcd.url}: its database is full" in await refusal(cluster.commit([], large))
        assert A in (await cluster.snapshot(P)).entries


# Certificates.


async def test_a_server_and_a_client_of_one_authority_understand_each_other(make_etcd: Maker, tmp_path: Path) -> None:
    keys = authority(tmp_path / "keys")
    etcd = make_etcd(keys=keys)
    etcd.start()
    access = Access(keys.ca.cert, keys.client.cert, keys.client.key)
    async with connected(etcd, access=access) as cluster:
        first = await put(cluster)
        watch = cluster.watch(P, first - 1)
        assert (await anext(watch)).revision == first
        await watch.aclose()  # type: ignore[attr-defined]
        with pytest.raises(LeaseGone):
            await cluster.keep_alive(7)


async def test_what_is_wrong_with_tls_is_said(make_etcd: Maker, tmp_path: Path) -> None:
    keys, others = authority(tmp_path / "keys"), authority(tmp_path / "others")
    named = authority(tmp_path / "named", "192.0.2.77")
    etcd, plain = make_etcd(keys=keys), make_etcd(port=3000)
    misnamed = make_etcd(port=4000, keys=named)
    etcd.start()
    plain.start()
    misnamed.start(wait=False)
    ours = Access(keys.ca.cert, keys.client.cert, keys.client.key)
    misled = Access(named.ca.cert, named.client.cert, named.client.key)

    async def said(url: str, access: Access) -> str:
        cluster = connect([parse_etcd_url(url)], access)
        told = await refusal(cluster.snapshot(P))
        await cluster.close()
        return told.removeprefix(f"no etcd is of use: {parse_etcd_url(url)}: ")

    stranger = Access(others.ca.cert, keys.client.cert, keys.client.key)
    assert await said(etcd.url, stranger) == (
        "its certificate is not accepted: unable to get local issuer certificate (is it of etcd_ca?)"
    )
    assert "certificate" in await said(etcd.url, Access())
    refused = "it ended the TLS handshake: it does not accept our certificate, or asks for one (etcd_cert)"
    assert await said(etcd.url, Access(keys.ca.cert)) == refused
    assert await said(etcd.url, Access(keys.ca.cert, others.client.cert, others.client.key)) == refused
    assert (await said(etcd.url.replace("https", "http"), Access())).endswith("or expects TLS (https://)")
    assert (await said(plain.url.replace("http", "https"), ours)).endswith("is it http://?")
    await served(misnamed)
    assert await said(misnamed.url, misled) == "its certificate is for another host than this URL's"


async def served(etcd: Etcd) -> None:
    """It listens, though etcdctl does not accept it either."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", parse_etcd_url(etcd.url).port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


# Users.

ROOT = "the root's"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("secret\n")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def guarded(make_etcd: Maker) -> Etcd:
    etcd = make_etcd()
    etcd.start()
    etcd.guard(User("mdnp", "secret", "/mdnp/"), User("other", "secret", "/other/"), password=ROOT)
    return etcd


async def test_a_user_does_all_that_the_contract_has(make_etcd: Maker, password: Path) -> None:
    etcd = guarded(make_etcd)
    async with connected(etcd, access=Access(user="mdnp", password_file=password)) as cluster:
        watch = cluster.watch(P, 1)
        lease = await cluster.grant(60)
        await cluster.keep_alive(lease)
        revision = await cluster.commit([], [Put(A, b"1", lease)])
        assert (await anext(watch)).revision == revision
        await watch.aclose()  # type: ignore[attr-defined]
        assert set((await cluster.snapshot(P)).entries) == {A}
        await cluster.revoke(lease)
        assert (await cluster.snapshot(P)).entries == {}


async def test_users_may_come_and_go_while_we_are_connected(make_etcd: Maker, password: Path) -> None:
    etcd = make_etcd()
    etcd.start()
    async with connected(etcd, access=Access(user="mdnp", password_file=password)) as cluster:
        first = await put(cluster)
        etcd.guard(User("mdnp", "secret", "/mdnp/"), password=ROOT)
        assert await put(cluster) == first + 1
        etcd.ctl("user", "passwd", "mdnp", "--interactive=false", feed="another")
        await refusal(put(cluster))
        write(password, "another")
        assert await put(cluster) == first + 2
        etcd.ctl("auth", "disable")
        assert await put(cluster) == first + 3


async def test_many_calls_at_once_fetch_one_token(make_etcd: Maker, password: Path) -> None:
    etcd = guarded(make_etcd)
    async with connected(etcd, access=Access(user="mdnp", password_file=password)) as cluster:
        await asyncio.gather(*(cluster.snapshot(P) for _ in range(50)))  # each token takes etcd 0.1 s


async def test_who_is_not_let_in_hears_why(make_etcd: Maker, password: Path) -> None:
    etcd = guarded(make_etcd)

    async def said(access: Access, *, watching: bool = False) -> str:
        async with connected(etcd, access=access) as cluster:
            call = ended_as_call(cluster, 1) if watching else put(cluster)
            return (await refusal(call)).removeprefix(f"no etcd is of use: {etcd.url}: ")

    denied = "permission denied: the role of our user needs readwrite for the prefix /mdnp/"
    wrong = "wrong user or password (etcd_user, etcd_password_file)"
    assert await said(Access(user="other", password_file=password)) == denied
    assert await said(Access(user="other", password_file=password), watching=True) == denied
    assert await said(Access(user="nobody", password_file=password)) == wrong
    asks = "it asks for a user: set etcd_user and etcd_password_file, or show a user's etcd_cert"
    assert await said(Access()) == asks
    write(password, "guessed")
    assert await said(Access(user="mdnp", password_file=password)) == wrong


async def test_a_certificate_s_name_may_say_who_we_are(make_etcd: Maker, tmp_path: Path) -> None:
    keys = authority(tmp_path / "keys")
    etcd = make_etcd(keys=keys)
    etcd.start()
    etcd.guard(User("Docker", "", "/mdnp/"), password=ROOT)  # as the rig's authority names its client
    async with connected(etcd, access=Access(keys.ca.cert, keys.client.cert, keys.client.key)) as cluster:
        revision = await put(cluster)
        watch = cluster.watch(P, revision - 1)
        assert (await anext(watch)).revision == revision
        await watch.aclose()  # type: ignore[attr-defined]
        assert "permission denied" in await refusal(cluster.commit([], [Put("/other/a", b"1")]))
