"""Builds the house: the only module that names concrete classes, and that starts tasks which outlive a call."""

import asyncio
import logging
import secrets
import signal
import sys
import time

import mdnp
from mdnp import config
from mdnp.admin import routes as admin_routes
from mdnp.admin.routes import Admin
from mdnp.config import Settings
from mdnp.driver.network import NetworkDriver
from mdnp.engine import Engine
from mdnp.engine.api import DockerEngine
from mdnp.http import BODY_LIMIT, Listener, Response
from mdnp.ipam.collector import Collector
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel import Kernel
from mdnp.kernel.linux import LinuxKernel
from mdnp.model.errors import KernelError
from mdnp.model.supernet import Supernet, ula
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Store
from mdnp.store.sqlite import SqliteStore
from mdnp.wire import routes as wire_routes
from mdnp.wire.ipam import INTERFACE as IPAM_DRIVER
from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.network import INTERFACE as NETWORK_DRIVER
from mdnp.wire.network import NetworkVerbs
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import failure

log = logging.getLogger(__name__)

_DRAIN_S = 10.0
_ULA_BYTES = 5  # RFC 4193, 3.2.2: a random global id of 40 bits
_TOO_LARGE = f"the body is larger than {BODY_LIMIT} bytes"


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Errors: MdnpError for what prevents the start."""
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    store = await SqliteStore.open(settings.state_dir)
    kernel = LinuxKernel()
    engine = DockerEngine(settings.docker_socket)
    try:
        await _run(settings, store, kernel, engine)
    finally:
        await engine.close()
        await kernel.close()
        await store.close()


async def _run(settings: Settings, store: Store, kernel: Kernel, engine: Engine) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reconciler = Reconciler(store, kernel)
    await _start_in_sync(store, reconciler)
    ipam = await IpamDriver.open(store, kernel, await _supernets(settings, store), time.time)
    collector = Collector(store, ipam, engine, time.time, settings.grace)
    admin = await _listen_admin(
        settings,
        Admin(
            store=store,
            reconciler=reconciler,
            ipam=ipam,
            collector=collector,
            version=mdnp.__version__,
            settings=config.shown(settings),
        ),
    )
    interfaces = {
        NETWORK_DRIVER: NetworkVerbs(NetworkDriver(store, kernel, reconciler)).verbs(),
        IPAM_DRIVER: IpamVerbs(ipam).verbs(),
    }
    # An engine that starts makes its firewall anew; it activates us at first use, after that.
    plugin = await _listen_plugin(settings, Routes(interfaces, activated=reconciler.doubt))
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(reconciler.run()), tasks.create_task(collector.run())]
        log.info("mdnp %s serves on %s", mdnp.__version__, settings.socket)
        await stop.wait()
        log.info("stopping: answering what was asked")
        await plugin.drain(_DRAIN_S)
        await admin.drain(1.0)
        for task in beside:
            task.cancel()
    try:
        await reconciler.bury()
    except KernelError as error:
        log.warning("left for the next start: %s", error)


async def _start_in_sync(store: Store, reconciler: Reconciler) -> None:
    promises = store.promises
    log.info("%d networks and %d endpoints are promised", len(promises.networks), len(promises.endpoints))
    try:
        outcome = await reconciler.converge()
    except KernelError as error:
        log.warning("starting out of sync: %s", error)
        return
    for lost in outcome.lost:
        log.warning("lost, cannot be rebuilt: %s; restart its container", lost.object)


async def _supernets(settings: Settings, store: Store) -> tuple[Supernet, ...]:
    """Those configured, and for IPv6 a unique local one that was drawn once for this host."""
    if any(one.network.version == 6 for one in settings.address_pools):
        return settings.address_pools
    global_id = await store.fact("ula_global_id", secrets.token_hex(_ULA_BYTES))
    return (*settings.address_pools, ula(bytes.fromhex(global_id)))


async def _listen_plugin(settings: Settings, routes: Routes) -> Listener:
    async def answer(_method: str, path: str, body: bytes) -> Response:
        answered = await routes.answer(path, body)
        return Response(answered.status, answered.body, wire_routes.CONTENT_TYPE)

    too_large = failure(413, _TOO_LARGE)
    return await Listener.open(
        settings.socket, answer, Response(too_large.status, too_large.body, wire_routes.CONTENT_TYPE)
    )


async def _listen_admin(settings: Settings, admin: Admin) -> Listener:
    async def answer(method: str, path: str, _body: bytes) -> Response:
        status, body = await admin.answer(method, path)
        return Response(status, body, admin_routes.CONTENT_TYPE)

    too_large = Response(413, b'{"error": "%s"}' % _TOO_LARGE.encode(), admin_routes.CONTENT_TYPE)
    return await Listener.open(settings.admin_socket, answer, too_large)
