"""
A test host whose first process is the machine's own systemd.

It has namespaces of its own for everything (mounts, pids, control groups, names, and the host's network), over the
machine's root file system with memory above, and none of the machine's services is enabled in it. The kernel's
settings are read only there but for those of the network, as under systemd-nspawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rig.cell import ENV
from rig.command import PATIENCE, Result, RigError, run, until
from rig.host import Host
from rig.process import Process
from rig.sweep import MARK

_BUILD = """
set -eu
place=$1 group=$2
mount -t tmpfs -o mode=755 mdnp-rig "$place"
mkdir "$place/upper" "$place/work" "$place/root" "$place/groups"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" mdnp-rig "$place/root"
mount -t cgroup2 mdnp-rig "$place/groups"
mkdir -p "$place/groups/$group"
echo $$ >"$place/groups/$group/cgroup.procs"
exec unshare --cgroup -- sh -euc "$3" boot "$@"    # from here on that group is the root of all
"""

_BOOT = """
place=$1 data=$4 name=$5 mark=$6 ready=$7 files=$8
shift 8
cd "$place/root"
mount -t proc proc proc
echo "$name" >proc/sys/kernel/hostname             # in the uts namespace of this host
mount --bind proc/sys/net proc/sys/net
mount --rbind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 mdnp-rig sys/fs/cgroup

mount -t tmpfs -o mode=755 mdnp-rig dev            # without kmsg and console: what is said here stays here
for one in null zero full random urandom tty; do
    touch "dev/$one"
    mount --bind "/dev/$one" "dev/$one"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 mdnp-rig dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 mdnp-rig run
mount -t tmpfs -o mode=1777 mdnp-rig tmp

# Of the machine's services none: those that are enabled, that every boot has, that generators make.
units=usr/lib/systemd/system
rm -rf etc/systemd/system etc/docker etc/mdnp var/lib/mdnp "$units"-generators "$units"/*.target.wants
rm -f usr/sbin/policy-rc.d
mkdir -p etc/systemd/system "$units/sockets.target.wants" var/lib/docker
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket "$units/sockets.target.wants/"
mount --bind "$data" var/lib/docker                # an overlay cannot stand on one
cp -R "$files/." .
while [ $# -gt 0 ]; do
    mkdir -p "./$1"
    mount --bind "$2" "./$1"
    shift 2
done

mkdir old
pivot_root . old
touch "/old$ready"
umount -l /old
rmdir /old
# By `container` it knows not to look for hardware, and to leave the kernel's settings alone.
exec env -i container=rig "$mark" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
"""

_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid")


class Booted:
    """
    `folders` of the machine stand in it at the paths they are given for; what is below `files` is copied over its root
    before it boots. Docker is installed there, and not started.
    """

    def __init__(self, host: Host, folders: Mapping[str, Path] | None = None, files: Path | None = None) -> None:
        self.host = host
        self._folders = folders or {}
        self._files = files
        self._init = self._boot()

    @property
    def pid(self) -> int:
        """The pid of its first process, as the machine sees it."""
        return self._init.pid

    def run(
        self, command: Sequence[str | Path], *, check: bool = True, timeout: float = PATIENCE, feed: bytes = b""
    ) -> Result:
        """Run a command as somebody who is logged in there."""
        namespaces = [*_NAMESPACES, "--cgroup", "--net"]
        whole = ["nsenter", f"--target={self._init.pid}", *namespaces, "--", *map(str, command)]
        return run(whole, check=check, timeout=timeout, env=self.host.rig.env(ENV), feed=feed)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run(["systemctl", "show", "--value", f"--property={name}", unit]).out.strip()

    def journal(self, unit: str) -> str:
        return self.run(["journalctl", "--no-pager", "--output=cat", f"--unit={unit}"]).out

    def close(self) -> None:
        """As a power cut does."""
        self._init.kill()

    def _boot(self) -> Process:
        host = self.host
        place, ready, log = host.rig.folder / "booted", host.folder / "ready", host.log / "boot.log"
        nothing = host.folder / "nothing"
        for folder in (place, nothing):
            folder.mkdir(exist_ok=True)
        ready.unlink(missing_ok=True)
        folders = [str(one) for pair in self._folders.items() for one in pair]
        given = [place, f"{host.rig.name}/{host.label}", _BOOT, host.data_root, host.label]
        arguments = [*map(str, given), f"{MARK}={host.rig.folder}", str(ready), str(self._files or nothing), *folders]
        command = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--", "sh", "-c", _BUILD, "build", *arguments]
        init = host.rig.spawn(host.enter(command), log=log, env=ENV, wrapped=True)
        until(lambda: ready.exists() or not init.running, "systemd to be started")
        self._init = init
        until(lambda: not init.running or self._is_up(), "systemd to come up")
        if not init.running:
            raise RigError(f"host {host.label} did not boot\n{init.tail()}")
        return init

    def _is_up(self) -> bool:
        return self.run(["systemctl", "is-system-running"], check=False).out.strip() in ("running", "degraded")
