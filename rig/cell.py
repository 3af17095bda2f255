"""
Where an engine lives: a mount and a pid namespace over a root file system that is thrown away.

The root is an overlay: a given root below, memory above, so that neither the machine nor a cached root is ever written
to. The first process of the pid namespace is the `holder`; when it is killed, everything inside goes with it: the
engine, its containerd, every container. It also keeps the namespaces while the engine is down, as live-restore needs.
"""

from collections.abc import Sequence
from pathlib import Path

from rig.command import PATIENCE, Result, RigError, run, until
from rig.host import GATEWAY, Host
from rig.process import Process

# The machine has more than one docker; the one of the distribution's packages is meant.
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}

_BUILD = """
set -eu
place=$1 lower=$2 host=$3 name=$4 resolver=$5 ready=$6
mount --make-private "$(stat -c %m "$place")"      # nothing that is mounted here travels back
mount -t tmpfs -o mode=755 mdnp-rig "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$place/upper,workdir=$place/work" mdnp-rig "$place/root"
cd "$place/root"

mount -t proc proc proc
echo "$name" >proc/sys/kernel/hostname             # in the uts namespace of this cell
mount -t sysfs sysfs sys                           # a new one, which shows the links of this network namespace
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 mdnp-rig run
mount -t tmpfs -o mode=1777 mdnp-rig tmp

mkdir -p ".$host" run/docker/plugins old
mount --rbind "$host" ".$host"                     # shared with the machine, see rig/host.py
mount --bind "$host/plugins" run/docker/plugins    # the engine looks nowhere else
rm -rf etc/docker usr/lib/docker/plugins etc/resolv.conf    # the machine's settings are not the test host's
mkdir -p etc/docker/plugins
mount --bind "$host/specs" etc/docker/plugins      # where it looks after that
echo "nameserver $resolver" >etc/resolv.conf

# Not chroot: `docker exec` would land in the machine's own root.
pivot_root . old
mount --make-rprivate /old                         # else the unmount travels and takes /run/netns with it
umount -l /old
rmdir /old
touch "$ready"
exec env --ignore-signal=CHLD sleep infinity       # so that the kernel itself collects orphans
"""


class Cell:
    """The mount and pid namespaces of one engine on `host`, over the root file system `lower`."""

    def __init__(self, host: Host, lower: Path) -> None:
        self.host = host
        self._lower = lower
        self._keeper = self._build()
        self.holder = self._keeper.pid

    def _build(self) -> Process:
        """Everything is made by the holder itself, so there is nothing to undo when it fails half way."""
        place, ready, log = self.host.rig.folder / "root", self.host.folder / "ready", self.host.log / "cell.log"
        place.mkdir(exist_ok=True)
        ready.unlink(missing_ok=True)
        namespaces = ["--mount", "--propagation=unchanged", "--uts", "--pid", "--fork", "--kill-child"]
        arguments = map(str, (place, self._lower, self.host.folder, self.host.label, GATEWAY.ip, ready))
        command = ["unshare", *namespaces, "--", "sh", "-c", _BUILD, "cell", *arguments]
        keeper = self.host.rig.spawn(self.host.enter(command), log=log, env=ENV, wrapped=True)
        until(lambda: ready.exists() or not keeper.running, "the cell of an engine to be built")
        if not keeper.running:
            raise RigError(f"the cell of host {self.host.label} could not be built\n{keeper.tail()}")
        return keeper

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout: float = PATIENCE,
        feed: bytes = b"",
    ) -> Result:
        """Run a command over the root of the cell. It stays outside the pid namespace, so no process comes between."""
        return run(self._enter(command, "--mount"), check=check, timeout=timeout, env=self.host.rig.env(ENV), feed=feed)

    def spawn(self, command: Sequence[str], *, log: Path) -> Process:
        """Start a process that is wholly inside: all namespaces, and it dies with the cell."""
        inside = self._enter(command, "--mount", "--pid", "--uts")
        return self.host.rig.spawn(self.host.enter(inside), log=log, env=self.host.rig.env(ENV), wrapped=True)

    def close(self) -> None:
        """Kill everything inside."""
        self._keeper.kill()

    def _enter(self, command: Sequence[str], *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self.holder}", *namespaces, "--", *command]
