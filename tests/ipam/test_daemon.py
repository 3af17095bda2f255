"""Addresses and the life of the daemon: as a process, over its socket."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.ipam.daemon import Daemon
from tests.ipam.house import named, request_address, request_pool

pytestmark = pytest.mark.root

POOL = "mdnp-local/10.1.0.0/24"

Ending = Callable[[Daemon], object]
endings = pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill], ids=["stopped", "killed"])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.end()


def restart(daemon: Daemon, end: Ending) -> None:
    end(daemon)
    daemon.forget()
    daemon.start()


def automatic6(daemon: Daemon) -> str:
    status, reply = daemon.call("RequestPool", request_pool(v6=True))
    assert status == 200, reply
    return str(reply["Pool"])


def home(pool: str) -> str:
    return str(ip_network(pool).supernet(new_prefix=48))


def test_a_second_daemon_on_a_state_folder_refuses_and_the_first_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    second = Daemon(tmp_path, "second")

    code = second.attempt()

    assert code == 1
    assert f"the state in {tmp_path}/state is in use by another mdnp (pid {daemon.pid}): stop that one" in second.said
    assert not second.socket.exists()
    assert daemon.call("RequestAddress", request_address(POOL)) == (200, {"Address": "10.1.0.1/24", "Data": {}})


def test_a_second_daemon_takes_over_when_the_first_has_died(daemon: Daemon, tmp_path: Path) -> None:
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    daemon.call("RequestAddress", request_address(POOL))
    daemon.kill()
    second = Daemon(tmp_path, "second")

    second.start()
    try:
        assert second.call("RequestAddress", request_address(POOL)) == (200, {"Address": "10.1.0.2/24", "Data": {}})
    finally:
        second.end()


@endings
def test_a_release_while_the_daemon_is_down_is_tried_again_and_loses_nothing(daemon: Daemon, end: Ending) -> None:
    """Docker's client tries for half a minute."""
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    for name in ("web", "db"):
        daemon.call("RequestAddress", request_address(POOL, "", named(name)))
    end(daemon)
    daemon.forget()

    with pytest.raises(OSError, match=r"refused|No such file"):
        daemon.call("ReleaseAddress", {"PoolID": POOL, "Address": "10.1.0.1"})
    daemon.forget()
    daemon.start()
    while_held = daemon.call("RequestAddress", request_address(POOL, "10.1.0.1"))
    released = daemon.call("ReleaseAddress", {"PoolID": POOL, "Address": "10.1.0.1"})

    assert (while_held[0], released) == (409, (200, {}))
    assert [row["address"] for row in daemon.shown(f"/pool/{POOL}")["addresses"]] == ["10.1.0.2"]
    again = daemon.call("RequestAddress", request_address(POOL, "", named("web")))
    assert again == (200, {"Address": "10.1.0.1/24", "Data": {}})


@endings
def test_a_start_goes_on_where_the_last_run_ended(daemon: Daemon, end: Ending) -> None:
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    for name in ("web", "db"):
        daemon.call("RequestAddress", request_address(POOL, "", named(name)))
    daemon.call("ReleaseAddress", {"PoolID": POOL, "Address": "10.1.0.2"})
    before = daemon.shown("/pool"), daemon.shown(f"/pool/{POOL}")

    restart(daemon, end)

    assert (daemon.shown("/pool"), daemon.shown(f"/pool/{POOL}")) == before
    assert (before[0][0]["networks"], before[0][0]["used"], before[0][0]["resting"]) == (2, 1, 1)


@endings
def test_automatic_ipv6_pools_are_of_one_random_prefix_for_the_life_of_a_host(
    daemon: Daemon, end: Ending, tmp_path: Path
) -> None:
    """RFC 4193."""
    first = automatic6(daemon)

    restart(daemon, end)
    second = automatic6(daemon)
    other_host = Daemon(tmp_path / "other")
    other_host.socket.parent.mkdir()
    other_host.start()
    try:
        other = automatic6(other_host)
    finally:
        other_host.end()

    assert ip_network(first).subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]  # both are of IPv6
    assert (first == second, home(first) == home(second), home(first) == home(other)) == (False, True, False)


def test_connections_at_once_get_different_addresses(daemon: Daemon) -> None:
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))

    def take(_number: int) -> list[str]:
        with daemon.door() as door:
            return [door.call("RequestAddress", request_address(POOL))[1]["Address"] for _ in range(20)]

    with ThreadPoolExecutor(10) as threads:
        taken = [address for addresses in threads.map(take, range(10)) for address in addresses]

    assert len(set(taken)) == 200
