"""A host with a daemon that knows an etcd, and with no engine."""

from pathlib import Path

from bench.client import Client, computed_s
from bench.docker import Docker
from rig.host import Host, Underlay
from rig.plugin import Plugin

NETWORK, SUBNET = 1, "10.64.0.0/16"
_OVERLAY = {"mdnp.mode": "overlay"}


class Member:
    """The daemon is started at once; it ends with the run at the latest."""

    def __init__(self, underlay: Underlay, label: str, etcd: str) -> None:
        self.host = Host(underlay, label)
        self.plugin = Plugin(self.host, options=[f"--etcd={etcd}", "--log-level=error"])
        self.plugin.start()

    async def network(self) -> Docker:
        """The overlay network that all members have."""
        client = await Client.open(self.plugin.socket)
        return await Docker.create_network(client, NETWORK, SUBNET, _OVERLAY)

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.plugin.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        """What it has computed so far."""
        return computed_s(self.plugin.pid)

    def database_mib(self) -> float:
        return sum(one.stat().st_size for one in self.host.state.iterdir() if one.is_file()) / (1 << 20)
