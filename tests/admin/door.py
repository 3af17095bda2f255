"""The operator's door of a world."""

from mdnp.admin.routes import Admin
from mdnp.engine import EngineUnavailable, Listing
from mdnp.ipam.collector import Collector
from mdnp.ipam.driver import IpamDriver
from tests.world import World

VERSION = "9.9.9"
SETTINGS = {"socket": "/run/docker/plugins/mdnp.sock", "log_level": "info"}


class NoEngine:
    """Docker does not run."""

    async def list(self) -> Listing:
        raise EngineUnavailable("Docker cannot be asked: it does not run")

    async def close(self) -> None: ...


async def open_admin(world: World) -> Admin:
    ipam = await IpamDriver.open(world.store, world.kernel, (), lambda: 0.0)
    return Admin(
        store=world.store,
        reconciler=world.reconciler,
        ipam=ipam,
        collector=Collector(world.store, ipam, NoEngine(), lambda: 0.0, 120, apart_s=0),
        version=VERSION,
        settings=SETTINGS,
    )
