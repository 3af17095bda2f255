"""This host's membership, from the start of the daemon to its end: the seat in the cluster, and all who ask of it."""

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_address

from mdnp.cluster import Cluster
from mdnp.member import Allocations, DeclaredNetwork, KnownHost, Liveness, News, Presence, Standing
from mdnp.member.attendance import HOST_ID, VTEP, Attendance, Local
from mdnp.member.counted import CountedCluster
from mdnp.member.follower import Follower
from mdnp.member.registry import Registrar
from mdnp.member.seat import Council
from mdnp.member.teller import Teller
from mdnp.member.vigil import Vigil
from mdnp.model.host import Host, HostID
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.segment import Block, RemoteEndpoint, RemoteID, Segment, SegmentID
from mdnp.store import Memory

__all__ = ["Local", "Member"]


class Member:
    """
    Made by `open`: it goes on from what was known, and follows the cluster while it `run`s. It is the `Outlook`, the
    `Membership` and the `Registry` of this host.
    """

    def __init__(
        self,
        *,
        cluster: CountedCluster,
        council: Council,
        follower: Follower,
        teller: Teller,
        attendance: Attendance,
        vigil: Vigil,
        local: Local,
    ) -> None:
        self._cluster = cluster
        self._council = council
        self._follower = follower
        self._teller = teller
        self._attendance = attendance
        self._vigil = vigil
        self._local = local
        self._registrar = Registrar(council, teller)

    @classmethod
    async def open(
        cls,
        cluster: Cluster,
        memory: Memory,
        local: Local,
        changed: Callable[[News], None],
        *,
        lease_s: int = 15,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> "Member":
        """
        Go on from the store; etcd is not asked yet. `changed` is told, in the loop, what of the outlook changed.

        Errors: StoreUnavailable.
        """
        counted = CountedCluster(cluster)
        council = Council(counted, HostID(await memory.fact(HOST_ID, draw())))
        vigil = Vigil(lease_s)
        follower = Follower(council, memory, vigil, changed=changed, clock=clock, draw=draw)
        await follower.load()
        teller = Teller(council, memory)
        known = await memory.fact(VTEP, "")
        vtep = local.find_vtep() or (ip_address(known) if known else None)
        attendance = Attendance(
            council=council,
            follower=follower,
            teller=teller,
            vigil=vigil,
            memory=memory,
            local=local,
            vtep=vtep,
            lease_s=lease_s,
            clock=clock,
            draw=draw,
        )
        return cls(
            cluster=counted,
            council=council,
            follower=follower,
            teller=teller,
            attendance=attendance,
            vigil=vigil,
            local=local,
        )

    async def run(self, allocations: Allocations, presence: Presence) -> None:
        """Be in the cluster whenever that is possible, until cancelled."""
        self._teller.claims.allocations = allocations
        await self._attendance.run(presence)

    # Outlook.

    @property
    def vtep(self) -> IPAddress | None:
        return self._attendance.vtep

    @property
    def port(self) -> int:
        return self._local.port

    @property
    def remotes(self) -> Mapping[RemoteID, RemoteEndpoint]:
        return self._council.view.remotes

    def remotes_of(self, segment: SegmentID) -> Sequence[RemoteEndpoint]:
        return tuple(self._council.view.remotes_of(segment))

    def members_of(self, segment: SegmentID) -> Sequence[IPAddress]:
        return self._council.view.members_of(segment)

    # Membership.

    @property
    def host(self) -> Host:
        """Errors: ClusterUnavailable while the address of our tunnels is not known."""
        return self._attendance.host

    async def join(self, wanted: Segment) -> Segment:
        return await self._teller.join(wanted)

    def leave(self, segment: SegmentID) -> None:
        self._teller.leave(segment)

    def newest_generation(self, segment: SegmentID, addresses: Collection[IPAddress]) -> int:
        return self._council.view.newest_generation(segment, addresses)

    async def claim_block(self, pool: IPNetwork, within: IPNetwork) -> Block:
        return await self._teller.claims.claim_block(pool, within)

    async def claim_address(self, pool: IPNetwork, address: IPAddress) -> None:
        await self._teller.claims.claim_address(pool, address)

    def tell(self) -> None:
        self._teller.tell()

    # Registry.

    def standing(self) -> Standing:
        council, view = self._council, self._council.view
        begun = self._vigil.healthy_since
        return Standing(
            host=council.me,
            name=self._local.name,
            vtep=self.vtep,
            connected=council.seat is not None,
            trouble=council.trouble,
            healthy_s=None if begun is None else asyncio.get_running_loop().time() - begun,
            revision=council.revision,
            epoch=self._follower.epoch,
            waiting=tuple(map(view.called, view.unseeded())),
            pending=self._teller.pending,
            requests=dict(self._cluster.requests),
            hosts=tuple(map(self._known, sorted(view.hosts))),
            segments=view.known_segments(),
            remarks=tuple(sorted({*view.remarks(), *council.remarks})),
        )

    async def remove_host(self, host: HostID, *, force: bool = False) -> None:
        await self._registrar.remove_host(host, force=force)

    @property
    def declared(self) -> Mapping[str, DeclaredNetwork]:
        return self._council.view.networks

    def outcomes(self, name: str) -> Mapping[HostID, str]:
        return self._registrar.outcomes(name)

    async def declare(self, network: DeclaredNetwork) -> None:
        await self._registrar.declare(network)

    async def undeclare(self, name: str) -> None:
        await self._registrar.undeclare(name)

    def report(self, name: str, error: str | None) -> None:
        self._registrar.report(name, error)

    def _known(self, host: HostID) -> KnownHost:
        view = self._council.view
        row = view.hosts[host]
        return KnownHost(
            host=Host(host, row.name, row.vtep),
            liveness=self._liveness(host),
            segments=view.segments_of(host),
            blocks=tuple(Block(one.pool, one.network) for one in view.blocks_of(host)),
            endpoints=len(view.endpoints_of(host)),
            seeded=not view.is_unseeded(host),
        )

    def _liveness(self, host: HostID) -> Liveness:
        if self._vigil.is_gone(host):
            return Liveness.GONE
        here = self._council.seat is not None
        return Liveness.ALIVE if here and host in self._council.view.alive else Liveness.UNKNOWN
