"""
This host's membership in a cluster, made from the settings; what the others tell is brought to the reconciler.

What only a member needs is loaded where one is made: a host alone pays nothing for it.
"""

import asyncio
import logging
import platform
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mdnp.cluster import Cluster
from mdnp.cluster.access import Access, connect
from mdnp.config import Settings
from mdnp.dataplane.steps import Owner
from mdnp.engine import Docker
from mdnp.member import News
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Mode
from mdnp.model.segment import segment_of
from mdnp.store import Memory, Store
from mdnp.whereabouts import address_towards, is_here, machine

if TYPE_CHECKING:
    from mdnp.declared.declarer import Declarer
    from mdnp.member.session import Member

log = logging.getLogger(__name__)

_LOOK_S = 1.0  # how long the start waits for the name of an etcd to be looked up


def connected(settings: Settings) -> Cluster | None:
    """The cluster of the settings, which nobody asks yet; None without one. Errors: InvalidParameter for its files."""
    if not settings.etcd:
        return None
    access = Access(
        ca=settings.etcd_ca,
        cert=settings.etcd_cert,
        key=settings.etcd_key,
        user=settings.etcd_user or "",
        password_file=settings.etcd_password_file,
    )
    return connect(settings.etcd, access)


async def open_member(
    settings: Settings, cluster: Cluster, memory: Memory, changed: Callable[[News], None]
) -> "Member":
    """It asks nobody until it runs. Errors: StoreUnavailable."""
    from mdnp.member.session import Local, Member  # noqa: PLC0415  # see above

    locator = Locator(settings)
    await locator.look()
    local = Local(platform.node(), machine(), settings.vxlan_port, locator.vtep)
    return await Member.open(cluster, memory, local, changed, lease_s=settings.lease)


def make_declarer(settings: Settings, member: "Member", docker: Docker, store: Store) -> "Declarer":
    from mdnp.declared.declarer import Declarer  # noqa: PLC0415  # see above

    return Declarer(member, docker, store, settings.socket.stem)


class Locator:
    """
    The address of our tunnels: the one of the settings while a link has it, or the source of the route to etcd. Names
    are looked up in a thread, for that may take long: what was found is told, and looked for again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: IPAddress | None = None
        self._looking: threading.Thread | None = None

    def vtep(self) -> IPAddress | None:
        fixed = self._settings.host_address
        if fixed is not None:
            return fixed if is_here(fixed) else None
        self._begin()
        return self._found

    async def look(self) -> None:
        """Wait for it, but not for long: the start of the daemon waits for this."""
        if self._settings.host_address is not None:
            return
        await asyncio.to_thread(self._begin().join, _LOOK_S)

    def _begin(self) -> threading.Thread:
        if self._looking is None or not self._looking.is_alive():
            # Of its own, and a daemon: a look-up that hangs must not hold up our end.
            self._looking = threading.Thread(target=self._look, name="mdnp-vtep", daemon=True)
            self._looking.start()
        return self._looking

    def _look(self) -> None:
        self._found = address_towards(self._settings.etcd) or self._found


def owners(news: News, networks: Iterable[Network]) -> list[Owner]:
    """Whose part of the kernel follows from what changed."""
    overlays = (one for one in networks if one.options.mode is Mode.OVERLAY)
    changed = [Owner(one.id) for one in overlays if segment_of(one) in news.segments]
    return [*changed, *map(Owner, news.remotes)]
