"""What is read from Docker's API, and what is not believed."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from mdnp.engine import (
    EngineRefused,
    EngineUnavailable,
    ListedEndpoint,
    ListedNetwork,
    ListedPool,
    Listing,
    WantedNetwork,
    WantedPool,
)
from mdnp.engine.api import DockerEngine
from tests.engine_api.dockerd import CONTAINERS, CREATE, NETWORKS, Dockerd, running

# As engines of 20.10 and of 29 send them, shortened where nothing is read.
BRIDGE = {
    "Name": "bridge",
    "Id": "f0" * 32,
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
    "Internal": False,
    "Containers": {},
    "Options": {"com.docker.network.bridge.name": "docker0"},
    "Labels": {},
}
HOST = {"Name": "host", "Id": "f1" * 32, "Driver": "host", "IPAM": {"Driver": "default", "Options": None, "Config": []}}
NONE = {
    "Name": "none",
    "Id": "f2" * 32,
    "Driver": "null",
    "IPAM": {"Driver": "default", "Options": None, "Config": None},
}
OURS = {
    "Name": "mynet",
    "Id": "a1" * 32,
    "Driver": "mdnp",
    "Internal": False,
    "Options": {"mdnp.guard": "off"},
    "IPAM": {
        "Driver": "mdnp",
        "Options": {},
        "Config": [
            {
                "Subnet": "10.1.0.0/24",
                "IPRange": "10.1.0.64/26",
                "Gateway": "10.1.0.254",
                "AuxiliaryAddresses": {"router": "10.1.0.9", "printer": "10.1.0.10"},
            },
            {"Subnet": "fd00:1::/64"},
        ],
    },
}
WEB = {
    "Id": "c3" * 32,
    "Names": ["/web", "/other/alias"],
    "State": "running",
    "NetworkSettings": {
        "Networks": {
            "mynet": {
                "IPAMConfig": None,
                "Links": None,
                "NetworkID": "a1" * 32,
                "EndpointID": "e5" * 32,
                "Gateway": "10.1.0.254",
                "IPAddress": "10.1.0.64",
                "IPPrefixLen": 24,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "fd00:1::2",
                "GlobalIPv6PrefixLen": 64,
                "MacAddress": "02:6d:0a:01:00:40",
            },
            "bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
        }
    },
}
STOPPED = {
    "Id": "d4" * 32,
    "Names": ["/stopped"],
    "State": "exited",
    "NetworkSettings": {
        "Networks": {"mynet": {"IPAMConfig": {"IPv4Address": "10.1.0.77"}, "IPAddress": "", "GlobalIPv6Address": ""}}
    },
}
ON_HOST = {"Names": ["/hosted"], "NetworkSettings": {"Networks": {"host": {"IPAddress": "", "GlobalIPv6Address": ""}}}}


@pytest.fixture
async def dockerd(tmp_path: Path) -> AsyncIterator[Dockerd]:
    async with running(tmp_path / "docker.sock") as dockerd:
        yield dockerd


@asynccontextmanager
async def asking(socket: Path, limit_s: float = 5.0) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(socket, limit_s)
    try:
        yield engine
    finally:
        await engine.close()


async def listed(dockerd: Dockerd) -> Listing:
    async with asking(dockerd.socket) as engine:
        return await engine.list()


MYNET = "a1" * 32
OURS_LISTED = ListedNetwork(
    id=MYNET,
    name="mynet",
    driver="mdnp",
    ipam_driver="mdnp",
    options={"mdnp.guard": "off"},
    pools=(
        ListedPool(
            ip_network("10.1.0.0/24"),
            ip_network("10.1.0.64/26"),
            ip_address("10.1.0.254"),
            (ip_address("10.1.0.9"), ip_address("10.1.0.10")),
        ),
        ListedPool(ip_network("fd00:1::/64")),
    ),
)
WEB_LISTED = ListedEndpoint(
    id="e5" * 32,
    network=MYNET,
    container="web",
    mac="02:6d:0a:01:00:40",
    addresses=(ip_interface("10.1.0.64/24"), ip_interface("fd00:1::2/64")),
)


def expected(
    *subnets: str, networks: Sequence[ListedNetwork] = (), endpoints: Sequence[ListedEndpoint] = (), **names: list[str]
) -> Listing:
    """`names` have the addresses of each container; those of `nobody` have none."""
    addresses = {ip_address(one): "" if name == "nobody" else name for name, held in names.items() for one in held}
    return Listing(
        frozenset(map(ip_network, subnets)),
        addresses,
        {one.id: one for one in endpoints},
        {one.id: one for one in networks},
    )


async def test_networks_of_all_drivers_and_all_containers_are_listed(dockerd: Dockerd) -> None:
    dockerd.says(NETWORKS, [BRIDGE, HOST, NONE, OURS])
    dockerd.says(CONTAINERS, [WEB, STOPPED, ON_HOST])

    listing = await listed(dockerd)

    docker0 = ListedPool(ip_network("172.17.0.0/16"), gateway=ip_address("172.17.0.1"))
    assert listing == expected(
        "172.17.0.0/16",
        "10.1.0.0/24",
        "fd00:1::/64",
        networks=[
            ListedNetwork(
                "f0" * 32,
                "bridge",
                "default",
                False,
                {"com.docker.network.bridge.name": "docker0"},
                (docker0,),
                "bridge",
            ),
            ListedNetwork("f1" * 32, "host", "default", name="host"),
            ListedNetwork("f2" * 32, "null", "default", name="none"),
            OURS_LISTED,
        ],
        endpoints=[WEB_LISTED],
        nobody=["172.17.0.1", "10.1.0.254", "10.1.0.9", "10.1.0.10"],
        web=["10.1.0.64", "fd00:1::2", "172.17.0.2"],
    )
    assert dockerd.asked == [("GET", NETWORKS), ("GET", CONTAINERS)]


async def test_a_container_that_does_not_run_has_no_endpoint(dockerd: Dockerd) -> None:
    """Docker keeps the network by name, and the address that its user asked for."""
    dockerd.says(CONTAINERS, [STOPPED])

    assert (await listed(dockerd)).endpoints == {}


async def test_an_internal_network_is_listed_as_one(dockerd: Dockerd) -> None:
    dockerd.says(NETWORKS, [{**OURS, "Internal": True}])

    assert (await listed(dockerd)).networks == {MYNET: replace(OURS_LISTED, internal=True)}


@pytest.mark.parametrize("length", [-1, 33, 99])
async def test_an_address_is_held_whatever_its_prefix_length_says(dockerd: Dockerd, length: int) -> None:
    """What a listing does not show would be freed."""
    settings = {"Networks": {"mynet": {"IPAddress": "10.1.0.64", "IPPrefixLen": length, "EndpointID": "e5" * 32}}}
    dockerd.says(CONTAINERS, [{"Names": ["/web"], "NetworkSettings": settings}])

    assert list((await listed(dockerd)).addresses) == [ip_address("10.1.0.64")]


async def test_an_engine_without_anything_lists_nothing(dockerd: Dockerd) -> None:
    assert await listed(dockerd) == expected()


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"IPAM": None},
        {"IPAM": {}},
        {"IPAM": {"Config": None}},
        {"IPAM": {"Config": []}},
        {"IPAM": {"Config": [{}]}},
        {"IPAM": {"Config": [{"Subnet": "", "Gateway": "", "AuxiliaryAddresses": None}]}},
        {"IPAM": {"Config": [{"Subnet": "invalid Prefix", "Gateway": "invalid IP", "AuxiliaryAddresses": {"x": ""}}]}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/99", "Gateway": "10.1.0", "AuxiliaryAddresses": {}}]}},
    ],
)
async def test_what_a_network_does_not_say_is_passed_over(dockerd: Dockerd, network: dict[str, Any]) -> None:
    dockerd.says(NETWORKS, [{"Id": "f0" * 32, **network}, OURS])
    dockerd.says(CONTAINERS, [WEB])

    listing = await listed(dockerd)

    assert listing == expected(
        "10.1.0.0/24",
        "fd00:1::/64",
        networks=[ListedNetwork("f0" * 32), OURS_LISTED],
        endpoints=[WEB_LISTED],
        nobody=["10.1.0.254", "10.1.0.9", "10.1.0.10"],
        web=["10.1.0.64", "fd00:1::2", "172.17.0.2"],
    )


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"Names": None, "NetworkSettings": None},
        {"Names": [], "NetworkSettings": {}},
        {"NetworkSettings": {"Networks": None}},
        {"NetworkSettings": {"Networks": {}}},
        {"NetworkSettings": {"Networks": {"mynet": None}}},
        {"NetworkSettings": {"Networks": {"mynet": {}}}},
        {"NetworkSettings": {"Networks": {"mynet": {"IPAddress": "invalid IP", "GlobalIPv6Address": ":"}}}},
    ],
)
async def test_what_a_container_does_not_say_is_passed_over(dockerd: Dockerd, container: dict[str, Any]) -> None:
    dockerd.says(CONTAINERS, [container, WEB])

    assert await listed(dockerd) == expected(endpoints=[WEB_LISTED], web=["10.1.0.64", "fd00:1::2", "172.17.0.2"])


async def test_a_container_without_a_name_holds_its_address(dockerd: Dockerd) -> None:
    """One that is being removed."""
    dockerd.says(CONTAINERS, [{**WEB, "Names": None}])

    nameless = replace(WEB_LISTED, container="")
    assert await listed(dockerd) == expected(endpoints=[nameless], nobody=["10.1.0.64", "fd00:1::2", "172.17.0.2"])


async def test_prefix_lengths_and_host_bits_do_no_harm(dockerd: Dockerd) -> None:
    """Swarm writes gateways with a prefix length, old engines kept subnets as they were given."""
    dockerd.says(NETWORKS, [{"IPAM": {"Config": [{"Subnet": "10.1.0.7/24", "Gateway": "10.1.0.1/24"}]}}])

    listing = await listed(dockerd)

    assert listing.subnets == frozenset([ip_network("10.1.0.0/24")])
    assert list(listing.addresses) == [ip_address("10.1.0.1")]


@pytest.mark.parametrize("path", [NETWORKS, CONTAINERS])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"message": "page not found"}',
        b"[7]",
        b"[null]",
        b"[{",
        b"<html>",
        b"[]\n[]",
        b"\xff\xfe",
        b'[{"Names": ["\xff"], "IPAM": {"Config": [{"Subnet": "\xff"}]}}]',
        b'[{"New": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b'[{"Names": "/web", "IPAM": []}]',
        b'[{"NetworkSettings": {"Networks": {"mynet": {"IPAddress": 7}}}, "IPAM": {"Config": [{"Subnet": 7}]}}]',
    ],
)
async def test_a_listing_that_cannot_be_read_whole_is_none(dockerd: Dockerd, path: str, body: bytes) -> None:
    """What it does not show would be freed."""
    dockerd.says(path, body)

    with pytest.raises(EngineUnavailable):
        await listed(dockerd)


@pytest.mark.parametrize("path", [NETWORKS, CONTAINERS])
@pytest.mark.parametrize("status", [204, 400, 404, 500, 503])
async def test_an_engine_that_answers_with_an_error_cannot_be_asked(dockerd: Dockerd, path: str, status: int) -> None:
    dockerd.status[path] = status

    with pytest.raises(EngineUnavailable) as refusal:
        await listed(dockerd)

    assert str(refusal.value) == f"Docker answers {status} to {path}"


@pytest.mark.parametrize("path", [NETWORKS, CONTAINERS])
async def test_an_engine_that_hangs_cannot_be_asked_in_the_end(dockerd: Dockerd, path: str) -> None:
    dockerd.hangs.add(path)
    began = time.monotonic()

    async with asking(dockerd.socket, limit_s=0.2) as engine:
        with pytest.raises(EngineUnavailable) as refusal:
            await engine.list()
        took = time.monotonic() - began
        dockerd.hangs.clear()
        again = await engine.list()

    assert str(dockerd.socket) in str(refusal.value)
    assert took < 5  # seconds: of the order of the limit, on a busy machine
    assert again == expected()


async def test_an_engine_that_is_not_there_cannot_be_asked_at_once(tmp_path: Path) -> None:
    async with asking(tmp_path / "docker.sock") as engine:
        with pytest.raises(EngineUnavailable, match=r"Docker cannot be asked at .*docker\.sock: "):
            await engine.list()


async def test_a_socket_that_nobody_serves_cannot_be_asked(dockerd: Dockerd) -> None:
    await dockerd.stop()
    dockerd.socket.touch()

    with pytest.raises(EngineUnavailable, match=r"Docker cannot be asked"):
        await listed(dockerd)


async def test_an_engine_that_was_restarted_is_asked_anew(dockerd: Dockerd) -> None:
    """The kept connection is broken."""
    async with asking(dockerd.socket) as engine:
        before = await engine.list()
        await dockerd.stop()
        with pytest.raises(EngineUnavailable):
            await engine.list()
        await dockerd.start()
        dockerd.says(NETWORKS, [OURS])
        after = await engine.list()

    assert (before.subnets, len(after.subnets)) == (frozenset(), 2)


async def test_an_engine_that_was_never_asked_is_closed(tmp_path: Path) -> None:
    async with asking(tmp_path / "docker.sock"):
        pass


WANTED = WantedNetwork(
    name="blue",
    driver="mdnp",
    pools=(
        WantedPool("10.50.0.0/16", "10.50.128.0/17", "10.50.0.254", {"printer": "10.50.0.9"}),
        WantedPool("fd50::/64"),
    ),
    options={"mdnp.mode": "overlay"},
    labels={"mdnp.declared": "x"},
)


async def test_a_network_is_made_in_the_words_of_all_engines(dockerd: Dockerd) -> None:
    dockerd.status[CREATE] = 201
    dockerd.says(CREATE, {"Id": MYNET, "Warning": ""})

    async with asking(dockerd.socket) as engine:
        identity = await engine.make(WANTED)

    assert identity == MYNET
    assert dockerd.asked == [("POST", CREATE)]
    assert dockerd.told == [
        {
            "Name": "blue",
            "CheckDuplicate": True,
            "Driver": "mdnp",
            "Internal": False,
            "EnableIPv4": True,
            "EnableIPv6": True,
            "IPAM": {
                "Driver": "mdnp",
                "Config": [
                    {
                        "Subnet": "10.50.0.0/16",
                        "IPRange": "10.50.128.0/17",
                        "Gateway": "10.50.0.254",
                        "AuxiliaryAddresses": {"printer": "10.50.0.9"},
                    },
                    {"Subnet": "fd50::/64"},
                ],
            },
            "Options": {"mdnp.mode": "overlay"},
            "Labels": {"mdnp.declared": "x"},
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (409, {"message": "network with name blue already exists"}, "network with name blue already exists"),
        (
            500,
            {"message": "NetworkDriver.CreateNetwork: no etcd (call 3f9a1c)\n"},
            "NetworkDriver.CreateNetwork: no etcd",
        ),
        (400, b"<html>", "Docker answers 400"),
        (503, {}, "Docker answers 503"),
    ],
)
async def test_docker_s_refusal_is_told_in_its_words(dockerd: Dockerd, status: int, body: Any, words: str) -> None:
    dockerd.status.update({CREATE: status, f"/networks/{MYNET}": status})
    dockerd.says(CREATE, body)
    dockerd.says(f"/networks/{MYNET}", body)

    async with asking(dockerd.socket) as engine:
        for asked in (engine.make(WANTED), engine.remove(MYNET)):
            with pytest.raises(EngineRefused, match=words):
                await asked


async def test_a_network_is_removed_and_one_that_is_gone_is_no_error(dockerd: Dockerd) -> None:
    dockerd.status[f"/networks/{MYNET}"] = 204
    dockerd.says(f"/networks/{MYNET}", b"")

    async with asking(dockerd.socket) as engine:
        await engine.remove(MYNET)
        await engine.remove("b2" * 32)

    assert dockerd.asked == [("DELETE", f"/networks/{MYNET}"), ("DELETE", f"/networks/{'b2' * 32}")]


async def test_an_answer_that_cannot_be_read_leaves_open_what_was_made(dockerd: Dockerd) -> None:
    dockerd.status[CREATE] = 201
    dockerd.says(CREATE, b"<html>")

    async with asking(dockerd.socket) as engine:
        with pytest.raises(EngineUnavailable):
            await engine.make(WANTED)


@pytest.mark.parametrize(
    ("info", "drivers"),
    [
        (
            {"Plugins": {"Network": ["bridge", "mdnp:latest"], "Volume": ["local"]}, "ID": "x"},
            ["bridge", "mdnp:latest"],
        ),
        ({"Plugins": {"Network": None}}, []),
        ({}, []),
    ],
)
async def test_network_drivers_are_those_of_the_engine_and_of_plugins_that_it_runs(
    dockerd: Dockerd, info: Any, drivers: list[str]
) -> None:
    dockerd.says("/info", info)

    async with asking(dockerd.socket) as engine:
        assert list(await engine.drivers()) == drivers


async def test_networks_are_listed_with_their_labels_and_twice_what_is_there_twice(dockerd: Dockerd) -> None:
    other = {**OURS, "Id": "a2" * 32, "Labels": {"mdnp.declared": "x"}}
    dockerd.says(NETWORKS, [OURS, other])

    async with asking(dockerd.socket) as engine:
        listed = await engine.networks()

    assert listed == [OURS_LISTED, replace(OURS_LISTED, id="a2" * 32, labels={"mdnp.declared": "x"})]
