"""The test build: the daemon's own wiring, with the contracts of `contracts` between it and the rooms."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any

from mdnp import daemon, logs
from mdnp.config import Settings
from mdnp.daemon import _opened, _recover, _run
from mdnp.engine.api import DockerEngine
from mdnp.engine.directory import Directory
from mdnp.kernel.linux import LinuxKernel
from mdnp.measures import Measures
from mdnp.member.attendance import HOST_ID
from mdnp.model.errors import MdnpError
from mdnp.orphans.collector import Collector
from mdnp.systemd import Systemd
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Answer
from tests.faults.commons import US, FaultyCluster, KeptCluster
from tests.faults.contracts import FaultyKernel, FaultyStore
from tests.faults.points import DONE, Faults

APART_S = 0.02  # between the two listings of a collection: nothing else happens here meanwhile


def serve(settings: Settings, faults: Faults, commons: Path | None) -> int:
    """As `daemon.serve`; the exit code. `commons` is where the data of its etcd are, if it has one."""
    logs.set_up("info", logs.TEXT)
    # Seams that daemon.py has not; this process is a test's alone.
    vars(daemon).update(Routes=partial(_Routes, faults), Collector=partial(Collector, apart_s=APART_S))
    try:
        asyncio.run(_serve(settings, faults, commons))
    except MdnpError as error:
        logging.getLogger(__name__).error("ended: %s", error)  # noqa: TRY400  # as the command line says it
        return 1
    return 0


async def _serve(settings: Settings, faults: Faults, commons: Path | None) -> None:
    systemd = Systemd.taken_from({})
    store = await _opened(settings)
    kernel = FaultyKernel(await LinuxKernel.open(systemd.fds), faults)
    docker = DockerEngine(settings.docker_socket)
    engine = Directory(docker)
    cluster = FaultyCluster(KeptCluster(commons), faults) if commons else None
    try:
        if store.is_new:
            await _recover(settings, store, kernel, engine)
        if cluster:
            await store.fact(HOST_ID, US)
        memory = FaultyStore(store, faults)
        await _run(
            settings,
            systemd,
            memory,
            kernel,
            engine,
            measures=Measures(),
            cluster=cluster,
            docker=docker,
            heed=store.heed,
        )
    finally:
        await engine.close()
        await kernel.close()
        await store.close()


class _Routes(Routes):
    """What the listener asks, between reading a call and writing its answer."""

    def __init__(self, faults: Faults, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._faults = faults

    async def answer(self, path: str, body: bytes) -> Answer:
        if self._faults.reach("socket.call"):
            _break()
        answer = await super().answer(path, body)
        if self._faults.reach("socket.answer"):
            _break()
        # The listener writes without waiting for anything: when the loop takes its next turn, it has.
        asyncio.get_running_loop().call_soon(self._faults.reach, "socket.answer" + DONE)
        return answer


def _break() -> None:
    """The listener's library closes the connection of a call that is cancelled, and writes nothing."""
    raise asyncio.CancelledError
