"""By which address other hosts reach this one, as the kernel chooses it in a network namespace of its own."""

import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from mdnp.model.etcd_url import parse_etcd_url
from mdnp.whereabouts import address_towards, is_here, machine
from tests.kernel.grounds import own_namespace

pytestmark = pytest.mark.root


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with own_namespace():
        ip("link set lo up")
        ip("link add lan type bridge")
        ip("addr add 192.168.7.5/24 dev lan")
        ip("addr add fd00:7::5/64 dev lan nodad")
        ip("link set lan up")
        yield


def towards(*urls: str) -> str:
    return str(address_towards([parse_etcd_url(url) for url in urls]))


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("http://192.168.7.9:2379", "192.168.7.5"),
        ("https://[fd00:7::9]:2379", "fd00:7::5"),
        ("http://192.168.7.5:2379", "192.168.7.5"),
    ],
)
def test_it_is_the_source_of_the_route_to_the_server(url: str, source: str) -> None:
    assert towards(url) == source


def test_the_first_server_that_there_is_a_route_to_counts() -> None:
    assert towards("http://10.0.0.9:2379", "http://name.invalid:2379", "http://192.168.7.9:2379") == "192.168.7.5"


def test_with_the_server_on_this_host_it_is_the_source_of_the_default_route() -> None:
    assert towards("http://127.0.0.1:2379") == "None"
    ip("route add default via 192.168.7.1")
    assert towards("http://127.0.0.1:2379") == "192.168.7.5"


def test_without_a_route_there_is_none() -> None:
    assert towards("http://10.0.0.9:2379") == "None"


def test_an_address_of_this_host_is_known() -> None:
    assert is_here(ip_address("192.168.7.5"))
    assert is_here(ip_address("fd00:7::5"))
    assert not is_here(ip_address("192.168.7.6"))
    assert not is_here(ip_address("fd00:7::6"))


def test_each_network_namespace_is_a_machine() -> None:
    here = machine()

    assert machine() == here
    with own_namespace():
        assert machine() != here
