import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns import Unanswered
from mdnp.dns.resolvers import HostResolvers, ResolvConf, read
from mdnp.model.network import IPAddress
from tests.dns.ground import Elsewhere, answered, query


def _servers(text: str) -> list[str]:
    return [str(server) for server in read(text).servers]


def test_servers_are_read() -> None:
    text = "# by hand\n; too\nsearch example\nnameserver 127.0.0.53\n nameserver\t2001:db8::1 # the other\nnameserver\n"
    assert _servers(text) == ["127.0.0.53", "2001:db8::1"]


def test_a_link_local_server_keeps_its_zone() -> None:
    assert _servers("nameserver fe80::1%eth0\n") == ["fe80::1%eth0"]


def test_there_are_three_servers_at_most_and_each_once() -> None:
    assert _servers("\n".join(f"nameserver 192.0.2.{n}" for n in (1, 1, 2, 3, 4))) == [
        f"192.0.2.{n}" for n in (1, 2, 3)
    ]


def test_what_is_no_server_is_passed_over() -> None:
    assert _servers("#nameserver 192.0.2.1\nnameserver example.com\nnameservers 192.0.2.2\n") == []


@pytest.mark.parametrize(
    ("options", "timeout_s", "attempts"),
    [
        ("", 2, 2),
        ("options timeout:1 attempts:1", 1, 1),
        ("options rotate timeout:30\noptions attempts:9 ndots:2", 5, 3),
        ("options timeout:0 attempts:0", 1, 1),
        ("options timeout: attempts:x timeout:-1 attempts:²", 2, 2),
    ],
)
def test_options_are_read_within_bounds(options: str, timeout_s: int, attempts: int) -> None:
    assert read(options) == ResolvConf((), timeout_s, attempts)


@given(
    st.text() | st.lists(st.sampled_from(["nameserver ", "options ", "::1", "timeout:", "\n", "9" * 30])).map("".join)
)
def test_no_file_crashes(text: str) -> None:
    assert len(read(text).servers) <= 3


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def _no(_address: IPAddress) -> bool:
    return False


def _always(packet: bytes, _stream: bool) -> Sequence[bytes]:
    return [answered(packet, "192.0.2.1")]


def _failing(packet: bytes, _stream: bool) -> Sequence[bytes]:
    response = dns.message.make_response(dns.message.from_wire(packet))
    response.set_rcode(dns.rcode.SERVFAIL)
    return [response.to_wire()]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_hosts_server_is_asked(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    async with Elsewhere(_always).open() as elsewhere:
        resolvers = HostResolvers(_no, path, port=elsewhere.port)
        asked = query("www.example")
        assert await resolvers.ask(asked, stream=stream) == answered(asked, "192.0.2.1")
        assert resolvers.standing.servers == (ip_address("127.0.0.1"),)
        resolvers.close()


async def test_each_question_has_a_port_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    async with Elsewhere(_always).open() as elsewhere:
        resolvers = HostResolvers(_no, path, port=elsewhere.port)
        for number in range(5):
            await resolvers.ask(query(f"{number}.example"), stream=False)
        assert len(set(elsewhere.sources)) > 1
        resolvers.close()


async def test_the_next_server_is_asked_and_then_first(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.1\n")  # nobody listens at the first
    async with Elsewhere(_always).open() as elsewhere:
        resolvers = HostResolvers(_no, path, port=elsewhere.port)
        assert await resolvers.ask(query("www.example"), stream=False)
        assert resolvers.standing.servers == (ip_address("127.0.0.1"), ip_address("127.0.0.2"))
        resolvers.close()


async def test_a_failure_is_asked_about_once_and_then_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.1\n")
    async with Elsewhere(_failing).open() as elsewhere:
        resolvers = HostResolvers(_no, path, port=elsewhere.port)
        answer = dns.message.from_wire(await resolvers.ask(query("www.example"), stream=False))
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert len(elsewhere.asked) == 1
        resolvers.close()


async def test_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    elsewhere = Elsewhere(_always)
    async with elsewhere.open():
        pass
    with pytest.raises(Unanswered, match="cannot be asked"):
        await HostResolvers(_no, path, port=elsewhere.port).ask(query("www.example"), stream=False)


async def test_an_address_of_ours_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    async with Elsewhere(_always).open() as elsewhere:
        ours = {ip_address("127.0.0.1")}
        resolvers = HostResolvers(ours.__contains__, path, port=elsewhere.port)
        with pytest.raises(Unanswered, match="mdnp itself"):
            await resolvers.ask(query("www.example"), stream=False)
        assert "mdnp itself" in resolvers.standing.trouble
        assert not elsewhere.asked
        ours.clear()
        assert await resolvers.ask(query("www.example"), stream=False)
        resolvers.close()


async def test_without_a_server_it_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search example\n")
    resolvers = HostResolvers(_no, path)
    with pytest.raises(Unanswered, match="add a line `nameserver"):
        await resolvers.ask(query("www.example"), stream=False)
    assert not resolvers.standing.servers


def test_the_file_is_followed_once_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "resolv.conf", _Clock()
    resolvers = HostResolvers(_no, path, clock=clock)
    assert "cannot be read: No such file" in resolvers.standing.trouble
    path.write_text("nameserver 192.0.2.1\n")
    assert not resolvers.standing.servers
    clock.now_s += 1
    assert resolvers.standing.servers == (ip_address("192.0.2.1"),)
    other = tmp_path / "other"  # as those do that write it: of the same size, and put in its place
    other.write_text("nameserver 192.0.2.2\n")
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    other.rename(path)
    clock.now_s += 1
    assert resolvers.standing.servers == (ip_address("192.0.2.2"),)
    path.unlink()
    clock.now_s += 1
    assert not resolvers.standing.servers
