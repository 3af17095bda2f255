"""What real engines said to mdnp (`make record`), said again: the answers are the ones that those engines accepted."""

import itertools
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mdnp.ipam.driver import IpamDriver
from mdnp.kernel import Surroundings
from mdnp.measures import Measures
from mdnp.model.supernet import DEFAULT
from mdnp.wire.calls import Calls
from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.network import NetworkVerbs
from mdnp.wire.routes import Routes
from tests.world import open_world

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.jsonl"))


def read(path: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, path.read_text().splitlines()))


def id_in(reply: str) -> str:
    """The id that the call had when it was recorded: such a one is drawn again."""
    found = re.search(r"\(call (\w+)\)", reply)
    return found[1] if found else ""


def test_each_engine_of_the_rig_has_a_recording() -> None:
    assert [path.stem for path in RECORDED] == ["20.10", "28.5"]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_what_an_engine_said_is_answered_as_then(path: Path, tmp_path: Path) -> None:
    exchanges = read(path)

    async with open_world(tmp_path, Surroundings((), underlay_mtu=1500)) as world:
        ipam = await IpamDriver.open(world.store, world.kernel, DEFAULT, itertools.count(1000.0).__next__)
        interfaces = {"NetworkDriver": NetworkVerbs(world.driver).verbs(), "IpamDriver": IpamVerbs(ipam).verbs()}
        routes = Routes(interfaces, activated=world.reconciler.doubt)
        for exchange in exchanges:
            calls = Calls(routes, Measures(), partial(id_in, exchange["reply"]))
            answer = await calls.answer(exchange["path"], exchange["request"].encode())

            then = exchange["status"], json.loads(exchange["reply"])
            assert (answer.status, json.loads(answer.body)) == then, exchange["path"]
        assert world.promised == ([], [])
        assert world.kept == {}
        assert ipam.allocations() == {}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recording_has_every_verb_that_the_engine_has(path: Path) -> None:
    paths = {exchange["path"] for exchange in read(path)}

    verbs = {path.removeprefix("/NetworkDriver.") for path in paths if not path.startswith("/IpamDriver.")}
    common = {
        "/Plugin.Activate",
        "GetCapabilities",
        "CreateNetwork",
        "DeleteNetwork",
        "CreateEndpoint",
        "EndpointOperInfo",
        "DeleteEndpoint",
        "Join",
        "Leave",
        "ProgramExternalConnectivity",
        "RevokeExternalConnectivity",
    }
    assert verbs == common | ({"GwAllocCheck"} if path.stem != "20.10" else set())
    assert {path.removeprefix("/IpamDriver.") for path in paths if path.startswith("/IpamDriver.")} == {
        "GetCapabilities",
        "GetDefaultAddressSpaces",
        "RequestPool",
        "ReleasePool",
        "RequestAddress",
        "ReleaseAddress",
    }
