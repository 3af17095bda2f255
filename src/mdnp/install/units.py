"""
The texts of the files: systemd.unit(5), systemd.socket(5), systemd.exec(5), and our configuration. Pure.

Each setting that is not plain has its reason beside it, since an operator reads them there.
"""

import json
from collections.abc import Mapping
from dataclasses import fields

from mdnp.config import CONFIG_FILE, Settings
from mdnp.install.plan import File
from mdnp.model.tcp_address import is_literal, parse_tcp_address

SOCKET = "mdnp.socket"
SERVICE = "mdnp.service"
OPERATORS = "/etc/systemd/system"  # units that are not a package's
PACKAGES = "/lib/systemd/system"

# Where ProtectHome would hide the program.
_HOMES = ("/home/", "/root/", "/run/user/")

_SOCKET = """\
# Where Docker finds mdnp. systemd holds the socket, so that a call while the daemon starts or is restarted waits in its
# queue; a socket that is missing costs Docker seconds for each look, and may hold up its start.
[Unit]
Description=The socket on which Docker finds mdnp
# Default dependencies are kept: there before sockets.target, and so before basic.target and every usual service. This
# says it of Docker in so many words. Nothing here requires Docker or is part of it: it does not stop when Docker does.
Before=docker.service

[Socket]
{listen}
# Who may write here may make networks. Docker makes the folder with this mode too, whoever comes first.
SocketMode=0600
DirectoryMode=0700
# A file without a listener would be asked again and again.
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_DOCKER = """\
# Docker looks for its plugins as soon as it starts: by then the socket of mdnp is there, also where it was stopped by
# hand. Only wanted: without mdnp Docker starts all the same.
[Unit]
Wants=mdnp.socket
After=mdnp.socket
"""

_SERVICE = """\
[Unit]
Description=mdnp, networks for plain Docker
# A daemon whose socket is gone would serve nobody.
Requires=mdnp.socket
After=mdnp.socket
# For the way down: Docker ends its containers first, and asks us meanwhile. On the way up nobody waits for us.
Before=docker.service
# Never give up: systemd would take the socket away as well.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
# iptables locks here, together with Docker; what is not there when we start could not be made then.
ExecStartPre=+touch /run/xtables.lock
ExecStart={program} serve
Restart=always
RestartSec=1s
# The loop tells that it runs every 10 s.
WatchdogSec=60s
TimeoutStartSec=90s
# Calls that are under way are answered first, for 10 s at most.
TimeoutStopSec=30s
# A call of iptables that is under way is not cut off.
KillMode=mixed
# Published ports stay held from one daemon to the next. Their names, which systemd hands over with them, are the limit:
# not more than these fit.
FileDescriptorStoreMax=8192
# A published port takes one, a connection that is carried two.
LimitNOFILE=524288
# What containers stand on goes last.
OOMScoreAdjust=-500

StateDirectory=mdnp
StateDirectoryMode=0700
RuntimeDirectory=mdnp
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=restart
UMask=0077

# Only what is used. NET_ADMIN: links, nft, settings of the network. NET_RAW: the legacy iptables. NET_BIND_SERVICE:
# published ports below 1024. SYS_PTRACE and DAC_READ_SEARCH: to say which process has a port that is in use. SYS_ADMIN:
# to enter containers' network namespaces, where their questions of names are taken; without it only these fail.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_SYS_ADMIN
NoNewPrivileges=yes
# The network of the host is what this is for: PrivateNetwork, IPAddressDeny and the like must stay off. So must
# ProtectProc and ProcSubset, which hide /proc/sys and other processes.
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
# All is read only but the folders above, that lock and the settings of the network. Sockets can be spoken to all the
# same: Docker's is no file to write.
ProtectSystem=strict
ReadWritePaths=-/run/xtables.lock /proc/sys/net
ProtectKernelTunables=yes
ProtectHome={protect_home}
# What others mount is seen here, as Docker's namespaces are; nothing that is mounted here is seen by others.
PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
# No namespaces are made, and none entered but those of networks.
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
# The socket is what is enabled, and starts this at Docker's first call. Enable this one too to have it from the start.
WantedBy=multi-user.target
Also=mdnp.socket
"""

_CONFIGURATION = f"""\
# The settings of mdnp, as they are without this file. Variables of the environment (MDNP_GRACE=60) and flags of
# `mdnp serve` go before it. `mdnp config` shows those in force; `systemctl restart {SERVICE}` puts these in force, and
# no call and no packet is lost by that.
#
# Who moves a folder or a socket must also tell systemd (`systemctl edit {SERVICE}`: ReadWritePaths=, and
# `systemctl edit {SOCKET}`: ListenStream=), which lets mdnp write nowhere else.
"""

_COMMENTS: Mapping[str, str] = {
    "socket": "Where Docker finds mdnp. The name of the file is the name of the driver.",
    "state_dir": "What was promised is kept here.",
    "runtime_dir": "Where the operator's commands find the daemon.",
    "docker_host": "Docker's API, asked outside of calls: what it forgot to give back, names of containers.",
    "address_pools": "What networks without a --subnet are cut from; one of IPv6 is drawn if none of it is named.",
    "grace": "How old, in seconds, what Docker does not know must be before it is freed.",
    "log_level": "debug, info, warning or error.",
    "metrics": "off, or the address on this host where Prometheus may read, and anybody here: 127.0.0.1:9677.",
    "log_format": "text or json.",
    "listen": "Where Docker may call besides, with TLS: tcp://HOST:PORT. It needs the three that follow.",
    "tls_cert": "The certificate that Docker is shown.",
    "tls_key": "Its key.",
    "tls_ca": "The authority of which Docker must show a certificate.",
    "etcd": "The etcd by which hosts share networks: one URL of each of its members, as https://etcd-1.example:2379.",
    "etcd_ca": "The authority of its certificates; off for those that the system trusts.",
    "etcd_cert": "The certificate that etcd is shown, if it asks for one.",
    "etcd_key": "Its key.",
    "etcd_user": "Who we are there, if it asks; a certificate's name may say it too.",
    "etcd_password_file": "The file whose first line is that user's password; mode 0600.",
    "host_address": "Where other hosts send frames to; off for the address of the way out.",
    "vxlan_port": "The UDP port there: the same on all hosts.",
    "lease": "How long, in seconds, the others count on this host when they no longer hear of it.",
    "host_dns": "Where this host's own resolver asks for NAME.NETWORK.mdnp: off, or an address of loopback.",
}


def files(program: str, folder: str = OPERATORS, given: Mapping[str, str] | None = None) -> tuple[File, ...]:
    """
    All that is put in. `program` is the absolute path of mdnp, `folder` that of the units, `given` are the settings
    that differ from the defaults.
    """
    given = given or {}
    protect_home = "read-only" if program.startswith(_HOMES) else "yes"
    return (
        File(f"{folder}/{SOCKET}", _SOCKET.format(listen=_listen(given))),
        File(f"{folder}/{SERVICE}", _SERVICE.format(program=_word(program), protect_home=protect_home)),
        File(f"{folder}/docker.service.d/mdnp.conf", _DOCKER),
        File(str(CONFIG_FILE), configuration(given), is_configuration=True),
    )


def configuration(given: Mapping[str, str] | None = None) -> str:
    """Every setting with its default, each as a comment; those that are given are in force."""
    given = given or {}
    defaults = Settings()
    parts = [_CONFIGURATION]
    for one in fields(Settings):
        comment = f"# {_COMMENTS[one.name]}\n" if one.name in _COMMENTS else ""
        value, mark = (given[one.name], "") if one.name in given else (getattr(defaults, one.name), "#")
        parts.append(f"{comment}{mark}{one.name} = {_toml(value)}\n")
    return "\n".join(parts)


def _listen(given: Mapping[str, str]) -> str:
    """Where systemd listens: on TCP too if that is by an address, since a name may not be known so early."""
    lines = [f"ListenStream={given.get('socket', Settings().socket)}"]
    address = parse_tcp_address(given["listen"]) if "listen" in given else None
    if address is not None and is_literal(address.host):
        lines += [
            f"ListenStream={address.authority}",
            "# Before the address is there, as early in the boot.",
            "FreeBind=yes",
        ]
    return "\n".join(lines)


def _word(path: str) -> str:
    """A path as one word of a command line of systemd's."""
    plain = path.replace("%", "%%").replace("$", "$$")
    return json.dumps(plain) if any(one.isspace() or one in "\"'\\" for one in plain) else plain


def _toml(value: object) -> str:
    match value:
        case None | ():
            return json.dumps("off")
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case tuple() | list() | frozenset():
            return "[" + ", ".join(json.dumps(str(one)) for one in value) + "]"
        case _:
            return json.dumps(str(value))
