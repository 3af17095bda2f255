"""What the service's limits allow of entering namespaces, and what they do not."""

from pathlib import Path

import pytest

from mdnp.install import units
from rig.command import until
from rig.host import Host
from tests.install.conftest import PATIENCE, Machine

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(PATIENCE)]

_FOLDER = "/run/docker/netns"  # of 28.5; made when Docker first needs it, which may be after our start
_PROGRAM = f"""
import ctypes, os, socket, time
libc = ctypes.CDLL(None, use_errno=True)
def said(what, result):
    print(what, "works" if result == 0 else os.strerror(ctypes.get_errno()), flush=True)
path = "{_FOLDER}/late"
while not os.path.exists(path) or os.stat(path).st_dev == os.stat("/run").st_dev:
    time.sleep(0.02)
said("net", libc.setns(os.open(path, os.O_RDONLY), 0x40000000))
with socket.socket() as one:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
    one.bind(("127.0.0.11", 0))
    print("sockets work", flush=True)
said("pid", libc.setns(os.open("/proc/1/ns/pid", os.O_RDONLY), 0x20000000))
said("new mounts", libc.unshare(0x20000))
said("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
print("end", flush=True)
"""
_EXPECTED = """\
net works
sockets work
pid Operation not permitted
new mounts Operation not permitted
mount Operation not permitted
end"""
# As Docker makes a sandbox; a host's root is shared (systemd.exec(5), MountFlags), that of this machine is not.
_SANDBOX = f"""
mkdir -p {_FOLDER}
touch {_FOLDER}/late
unshare --net={_FOLDER}/late ip link set lo up
"""


def test_a_network_namespace_that_comes_later_is_entered_and_no_other_kind(host: Host, tmp_path: Path) -> None:
    service = next(one.text for one in units.files("/opt/limits") if one.path.endswith(units.SERVICE))
    for before, after in (
        ("ExecStart=/opt/limits serve", "ExecStart=/usr/bin/python3 /opt/limits.py"),
        ("Type=notify", "Type=exec"),
        ("Requires=mdnp.socket\n", ""),
        ("Restart=always", "Restart=no"),
    ):
        assert before in service
        service = service.replace(before, after)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/limits.service").write_text(service)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/limits.py").write_text(_PROGRAM)
    machine = Machine(host, files=tmp_path)
    try:
        machine.run(["mount", "--make-rshared", "/"])
        machine.systemctl("start", "limits.service")
        machine.run(["sh", "-ec", _SANDBOX])
        until(lambda: "end" in machine.journal("limits.service"), "it to try all")
        assert _EXPECTED in machine.journal("limits.service")
    finally:
        machine.close()
