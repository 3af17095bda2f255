"""What real engines said to mdnp (`make record`), said again: the answers are the ones that those engines accepted."""

import json
from pathlib import Path
from typing import Any

import pytest

from mdnp.kernel import Surroundings
from tests.world import open_world

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.jsonl"))


def test_each_engine_of_the_rig_has_a_recording() -> None:
    assert [path.stem for path in RECORDED] == ["20.10", "28.5"]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_what_an_engine_said_is_answered_as_then(path: Path, tmp_path: Path) -> None:
    exchanges: list[dict[str, Any]] = list(map(json.loads, path.read_text().splitlines()))

    async with open_world(tmp_path, Surroundings((), underlay_mtu=1500)) as world:
        for exchange in exchanges:
            answer = await world.routes.answer(exchange["path"], exchange["request"].encode())

            then = exchange["status"], json.loads(exchange["reply"])
            assert (answer.status, json.loads(answer.body)) == then, exchange["path"]
        assert world.promised == ([], [])
        assert world.kept == []


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recording_has_every_verb_that_the_engine_has(path: Path) -> None:
    verbs = {json.loads(line)["path"].removeprefix("/NetworkDriver.") for line in path.read_text().splitlines()}

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
