"""The operator's door of a world."""

from collections.abc import Mapping

from mdnp.admin.cluster import Cluster
from mdnp.admin.meter import Meter
from mdnp.admin.routes import Admin, Look
from mdnp.dns.standing import Standing
from mdnp.driver.keeper import NetworkKeeper
from mdnp.engine import EngineUnavailable, Listing
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.keeper import AddressKeeper
from mdnp.orphans import Keeper
from mdnp.orphans.collector import Collector
from tests.world import World

VERSION = "9.9.9"
SETTINGS = {"socket": "/run/docker/plugins/mdnp.sock", "log_level": "info"}


class Engine:
    """Lists what a test says, if it runs."""

    def __init__(self) -> None:
        self.listing: Listing | None = None

    async def list(self) -> Listing:
        if self.listing is None:
            raise EngineUnavailable("Docker cannot be asked: it does not run")
        return self.listing

    async def version(self) -> str:
        await self.list()
        return "28.5.2"

    async def close(self) -> None: ...


async def open_admin(
    world: World,
    engine: Engine | None = None,
    directory: Directory | None = None,
    *,
    collector: Collector | None = None,
    looks: Mapping[str, Look] | None = None,
    cluster: Cluster | None = None,
    naming: Standing | None = None,
) -> Admin:
    ipam = await IpamDriver.open(world.store, world.kernel, (), lambda: 0.0)
    directory = directory or Directory(engine or Engine())
    keepers: list[Keeper] = [NetworkKeeper(world.store, world.driver), AddressKeeper(world.store, ipam)]
    return Admin(
        store=world.store,
        reconciler=world.reconciler,
        ipam=ipam,
        collector=collector or Collector(keepers, directory, world.clock, 120, apart_s=0),
        directory=directory,
        meter=Meter(world.kernel),
        version=VERSION,
        settings=SETTINGS,
        looks=looks,
        cluster=cluster,
        naming=lambda: naming,
    )
