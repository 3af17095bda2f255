"""Builds the house: the only module that names concrete classes, and that starts tasks which outlive a call."""

import asyncio
import logging
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mdnp
from mdnp import config, logs, tls
from mdnp.admin import cluster as admin_cluster
from mdnp.admin import page
from mdnp.admin.exposition import Exposition
from mdnp.admin.glance import Glance
from mdnp.admin.meter import Meter
from mdnp.admin.routes import Admin
from mdnp.admin.window import Window
from mdnp.cluster import Cluster
from mdnp.clustering import connected, make_declarer, open_member, owners
from mdnp.config import Settings
from mdnp.driver.keeper import NetworkKeeper
from mdnp.driver.network import NetworkDriver
from mdnp.driver.overlays import Overlays
from mdnp.engine import Docker, Engine, EngineUnavailable
from mdnp.engine.api import DockerEngine
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.keeper import AddressKeeper
from mdnp.kernel import Actual, Failure, Kernel
from mdnp.kernel.claim import claim
from mdnp.kernel.linux import LinuxKernel
from mdnp.kernel.sandbox import LinuxDoorways
from mdnp.listeners import listen_admin, listen_plugin, listen_window
from mdnp.measured import MeasuredEngine, MeasuredKeeper, MeasuredKernel, MeasuredStore
from mdnp.measures import Measures
from mdnp.member import Alone, News
from mdnp.model.errors import Damaged, InvalidParameter, KernelError, MdnpError
from mdnp.model.supernet import Supernet, ula
from mdnp.orphans.collector import Collector
from mdnp.reconcile.converge import Reconciler
from mdnp.reconcile.diff import diff
from mdnp.recovery import recover
from mdnp.resolving import Resolving
from mdnp.store import Memory, Store, sqlite
from mdnp.store.sqlite import SqliteStore
from mdnp.systemd import Systemd
from mdnp.wire.calls import Calls
from mdnp.wire.ipam import INTERFACE as IPAM_DRIVER
from mdnp.wire.ipam import LOCAL_SPACE, IpamVerbs
from mdnp.wire.network import INTERFACE as NETWORK_DRIVER
from mdnp.wire.network import NetworkVerbs
from mdnp.wire.routes import Routes

if TYPE_CHECKING:
    from mdnp.declared.declarer import Declarer
    from mdnp.member.session import Member

log = logging.getLogger(__name__)

_DRAIN_S = 10.0
_RECOVERY_S = 2.0  # Docker may be waiting for us
_ULA_BYTES = 5  # RFC 4193, 3.2.2: a random global id of 40 bits
_CALL_BYTES = 3  # of a call's id: short enough to be read out


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Errors: MdnpError for what prevents the start."""
    logs.set_up(settings.log_level, settings.log_format)
    try:
        asyncio.run(_serve(settings, Systemd.taken_from(os.environ), _secured(settings)))
    except Exception as error:
        if settings.log_format != logs.JSON:
            raise
        # Whoever reads JSON is told in JSON why we end.
        log.critical("ended: %s", error, exc_info=None if isinstance(error, MdnpError) else error)
        sys.exit(2 if isinstance(error, InvalidParameter) else 1)


def _secured(settings: Settings) -> ssl.SSLContext | None:
    """Found wrong before anything is begun."""
    if settings.listen is None or not (settings.tls_cert and settings.tls_key and settings.tls_ca):
        return None
    return tls.context(tls.Material(settings.tls_cert, settings.tls_key, settings.tls_ca), settings.listen)


@dataclass(frozen=True)
class Leftovers:
    """
    What is there of mdnp when no daemon runs. `steps` would take it out of the kernel, `files` are its state. `used`
    are the networks that Docker has of us, each with the containers on it; None if Docker does not answer.
    """

    steps: tuple[str, ...]
    files: tuple[Path, ...]
    used: Mapping[str, Sequence[str]] | None


def leftovers(settings: Settings) -> Leftovers:
    """Errors: KernelError when the kernel cannot be read."""
    return asyncio.run(_leftovers(settings))


def purge(settings: Settings) -> tuple[Failure, ...]:
    """
    Take all that is ours out of the kernel, by the path of every change, and then the state; what the kernel refused.

    Errors: Conflict while a daemon runs; KernelError; StoreUnavailable when the state cannot be removed.
    """
    with sqlite.forgetting(settings.state_dir), claim():
        return asyncio.run(_purge_kernel())


async def _leftovers(settings: Settings) -> Leftovers:
    kernel = LinuxKernel()
    engine = DockerEngine(settings.docker_socket)
    try:
        steps = diff({}, await kernel.observe()).steps
        used = await _used(engine, settings.socket.stem)
    finally:
        await engine.close()
        await kernel.close()
    return Leftovers(tuple(map(str, steps)), tuple(sqlite.files(settings.state_dir)), used)


async def _used(engine: Engine, driver: str) -> dict[str, list[str]] | None:
    try:
        listing = await engine.list()
    except EngineUnavailable:
        return None
    used: dict[str, list[str]] = {one.id: [] for one in listing.networks.values() if driver == one.driver}
    for endpoint in listing.endpoints.values():
        if endpoint.network in used:
            used[endpoint.network].append(endpoint.container)
    return used


async def _purge_kernel() -> tuple[Failure, ...]:
    kernel = LinuxKernel()
    try:
        failures = await kernel.perform(diff({}, await kernel.observe()).steps)
        await kernel.reap()
        return failures
    finally:
        await kernel.close()


async def _serve(settings: Settings, systemd: Systemd, secured: ssl.SSLContext | None) -> None:
    store = await _opened(settings)
    try:
        with claim():
            await _serve_from(settings, systemd, store, secured)
    finally:
        await store.close()


async def _serve_from(settings: Settings, systemd: Systemd, store: SqliteStore, secured: ssl.SSLContext | None) -> None:
    cluster = connected(settings)
    kernel = await LinuxKernel.open(systemd.fds)
    measures = Measures()
    docker = DockerEngine(settings.docker_socket)
    engine = Directory(MeasuredEngine(docker, measures))
    try:
        if store.is_new:
            await systemd.starting("asking Docker and the kernel what there is")
            await _recover(settings, store, kernel, engine)
        await _run(
            settings,
            systemd,
            MeasuredStore(store, measures),
            MeasuredKernel(kernel, measures),
            engine,
            measures=measures,
            secured=secured,
            cluster=cluster,
            docker=docker,
            heed=store.heed,
        )
    finally:
        if cluster is not None:
            await cluster.close()
        await engine.close()
        await kernel.close()


async def _opened(settings: Settings) -> SqliteStore:
    """The store; a file that cannot be read is put aside, and a new one begun."""
    try:
        return await SqliteStore.open(settings.state_dir)
    except Damaged as error:
        name = datetime.now(UTC).strftime("damaged-%Y%m%dT%H%M%SZ")
        aside = await SqliteStore.set_aside(settings.state_dir, name)
        log.critical("%s: kept as %s; beginning anew with what Docker and the kernel show", error, aside)
        return await SqliteStore.open(settings.state_dir)


async def _recover(settings: Settings, store: Store, kernel: Kernel, engine: Engine) -> None:
    """An empty store under networks that exist lost its contents: without a promise they would be taken away."""
    try:
        actual = await kernel.observe()
    except KernelError as error:
        log.warning("nothing is recovered from the kernel: %s", error)
        actual = Actual({})
    try:
        async with asyncio.timeout(_RECOVERY_S):
            listing = await engine.list()
    except (EngineUnavailable, TimeoutError) as error:
        log.info("nothing is recovered from Docker: %s", error or "no answer")
        listing = None
    found = recover(listing, actual, driver=settings.socket.stem, space=LOCAL_SPACE, now=time.time())
    for remark in found.remarks:
        log.error("%s", remark)
    if found.changes:
        log.critical("the state was lost: %d records were recovered; see `mdnp status`", len(found.changes))
        await store.commit(*found.changes)


@dataclass(frozen=True)
class _Rooms:
    """Those that decide, as they are built on one another. `member` is None on a host that is in no cluster."""

    member: "Member | None"
    declarer: "Declarer | None"
    reconciler: Reconciler
    ipam: IpamDriver
    driver: NetworkDriver
    resolving: Resolving

    def run(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What each does beside the calls, until it is cancelled."""
        running = [self.reconciler.run(), self.ipam.sharing.run(), self.resolving.run()]
        if self.member is not None:
            running.append(self.member.run(self.ipam.sharing, self.driver))
        return running if self.declarer is None else [*running, self.declarer.run()]

    def shown(self, settings: Settings) -> admin_cluster.Cluster | None:
        """What the operator's door needs of the cluster."""
        if self.member is None or self.declarer is None:
            return None
        servers = tuple(map(str, settings.etcd))
        return admin_cluster.Cluster(self.member, self.member, servers, self.declarer.wake)


async def _build(
    settings: Settings,
    systemd: Systemd,
    store: Memory,
    kernel: Kernel,
    *,
    measures: Measures,
    cluster: Cluster | None,
    docker: Docker,
) -> _Rooms:
    """With the kernel in sync. No etcd is asked for that: what the other hosts told last is in the store."""
    declarer: Declarer | None = None
    resolving: Resolving | None = None

    def changed(news: News) -> None:
        reconciler.changed(owners(news, store.promises.networks.values()))
        if resolving is not None:
            resolving.follow(news)
        if news.networks and declarer is not None:
            declarer.wake()

    member = None if cluster is None else await open_member(settings, cluster, store, changed)
    declarer = make_declarer(settings, member, docker, store) if member else None
    reconciler = Reconciler(store, kernel, measures=measures, outlook=member or Alone())
    await systemd.starting("bringing the kernel in sync")
    await _start_in_sync(store, reconciler)
    ipam = await IpamDriver.open(store, kernel, await _supernets(settings, store), time.time, member)
    driver = NetworkDriver(store, kernel, reconciler, time.time, Overlays(member, ipam.sharing))
    resolving = Resolving(
        settings,
        store,
        member or Alone(),
        source=docker,
        holder=ipam.holder,
        doorways=LinuxDoorways(),
        tell=member.tell if member else lambda: None,
    )
    return _Rooms(member, declarer, reconciler, ipam, driver, resolving)


async def _run(
    settings: Settings,
    systemd: Systemd,
    store: Memory,
    kernel: Kernel,
    engine: Directory,
    *,
    measures: Measures,
    docker: Docker,
    heed: Callable[[Callable[[], None]], None],
    secured: ssl.SSLContext | None = None,
    cluster: Cluster | None = None,
) -> None:
    """`heed` has something called when promises change."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    rooms = await _build(settings, systemd, store, kernel, measures=measures, cluster=cluster, docker=docker)
    heed(rooms.resolving.changed)
    reconciler, ipam, driver, shown = rooms.reconciler, rooms.ipam, rooms.driver, rooms.shown(settings)
    keepers = [MeasuredKeeper(one, measures) for one in (NetworkKeeper(store, driver), AddressKeeper(store, ipam))]
    collector = Collector(keepers, engine, time.time, settings.grace)
    exposition = Exposition(
        measures=measures,
        store=store,
        kernel=kernel,
        reconciler=reconciler,
        ipam=ipam,
        collector=collector,
        directory=engine,
        version=mdnp.__version__,
        database_bytes=partial(SqliteStore.size, settings.state_dir),
        cluster=shown,
        naming=lambda: rooms.resolving.standing,
    )
    glance = Glance(
        store=store,
        kernel=kernel,
        reconciler=reconciler,
        ipam=ipam,
        collector=collector,
        directory=engine,
        version=mdnp.__version__,
    )
    looks = {"/metrics": exposition.answer, "/": page.answer, "/topology": glance.answer}
    window = await listen_window(settings, Window(looks))
    admin = await listen_admin(
        settings,
        systemd.listener(settings.admin_socket),
        Admin(
            store=store,
            reconciler=reconciler,
            ipam=ipam,
            collector=collector,
            directory=engine,
            meter=Meter(kernel),
            version=mdnp.__version__,
            settings=config.shown(settings),
            looks=looks,
            cluster=shown,
            naming=lambda: rooms.resolving.standing,
        ),
    )
    interfaces = {
        NETWORK_DRIVER: NetworkVerbs(driver).verbs(),
        IPAM_DRIVER: IpamVerbs(ipam).verbs(),
    }
    # An engine that starts makes its firewall anew; it activates us at first use, after that.
    plugin = await listen_plugin(
        settings,
        systemd,
        Calls(Routes(interfaces, activated=reconciler.doubt), measures, partial(secrets.token_hex, _CALL_BYTES)),
        secured,
    )
    systemd.close_rest()
    status = partial(_status, store, reconciler, measures, rooms.member)
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(one) for one in (*rooms.run(), collector.run(), systemd.run(status))]
        log.info("mdnp %s serves on %s", mdnp.__version__, " and ".join(map(str, _places(settings))))
        await systemd.ready(status())
        await stop.wait()
        log.info("stopping: answering what was asked")
        await systemd.stopping("answering what was asked")
        await asyncio.gather(*(one.drain(_DRAIN_S) for one in plugin))
        await admin.drain(1.0)
        if window is not None:
            await window.drain(1.0)
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
        await reconciler.listen()
        outcome = await reconciler.converge()
    except KernelError as error:
        log.warning("starting out of sync: %s", error)
        return
    for lost in outcome.lost:
        log.warning("lost, cannot be rebuilt: %s; restart its container", lost.object)


def _status(store: Store, reconciler: Reconciler, measures: Measures, member: "Member | None") -> str:
    promises = store.promises
    ports = sum(len(one.ports) for one in promises.endpoints.values())
    facts = [f"{len(promises.networks)} networks, {len(promises.endpoints)} endpoints, {ports} published ports"]
    facts.append("not in sync: see mdnp status" if reconciler.trouble or reconciler.lost else "in sync")
    if reconciler.converging:
        facts.append("converging")
    if measures.calls_under_way:
        facts.append(f"answering {measures.calls_under_way} calls")
    if measures.docker_up is False:
        facts.append("waiting for Docker to answer")
    if member is not None and not member.standing().connected:
        facts.append("not in the cluster: see mdnp status")
    return "; ".join(facts)


async def _supernets(settings: Settings, store: Store) -> tuple[Supernet, ...]:
    """Those configured, and for IPv6 a unique local one that was drawn once for this host."""
    if any(one.network.version == 6 for one in settings.address_pools):
        return settings.address_pools
    global_id = await store.fact("ula_global_id", secrets.token_hex(_ULA_BYTES))
    return (*settings.address_pools, ula(bytes.fromhex(global_id)))


def _places(settings: Settings) -> tuple[object, ...]:
    return (settings.socket, *([settings.listen] if settings.listen else []))
