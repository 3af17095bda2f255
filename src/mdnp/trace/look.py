"""
Looking: what ip(8), sysctl, nft and iptables say, here and in a container's network namespace. Changes nothing.

Errors: KernelError where a program is missing. What a program cannot tell is "", so that the rest is still told.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mdnp.model.errors import KernelError
from mdnp.model.network import IPAddress
from mdnp.trace.events import Rule
from mdnp.trace.facts import Interface, Tunnel, Way

_LIMIT_S = 10.0
_REFUSING = ("blackhole", "unreachable", "prohibit", "throw")
_LEGACY = {4: ("iptables-legacy-save", "ip_tables_names"), 6: ("ip6tables-legacy-save", "ip6_tables_names")}
_COUNTED = re.compile(r"\[(\d+):\d+\] (-A .*)")
_POLICY = re.compile(r":(\S+) DROP \[(\d+):\d+\]")
_DROPS = re.compile(r"-j (DROP|REJECT)\b")
_HANDLE = re.compile(r"# handle (\d+)$")
_PACKAGE = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "setpriv": "util-linux"}


def enter(namespace: Path, command: Sequence[str]) -> list[str]:
    """`command` as it is run in a network namespace: the program, not setns, which Python has from 3.12 on."""
    return ["nsenter", f"--net={namespace}", "--", *command]


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Errors: KernelError if the program is missing, or does not end. Its exit code is for the caller."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except FileNotFoundError as error:
        raise missing(command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{' '.join(command)}: no end within {_LIMIT_S:g} s") from error


def missing(program: str) -> KernelError:
    return KernelError(f"the program {program} is not installed: install {_PACKAGE.get(program, program)}")


def interfaces(namespace: Path | None = None) -> list[dict[str, Any]]:
    """All links as ip(8) shows them, with their addresses."""
    return _ip(namespace, "-details", "address", "show")


def interface(shown: Mapping[str, Any]) -> Interface:
    flags = shown["flags"]
    addresses = [f"{one['local']}/{one['prefixlen']}" for one in shown.get("addr_info", ()) if one["scope"] != "link"]
    return Interface(
        shown["ifname"],
        "UP" in flags,
        "LOWER_UP" in flags,
        shown["mtu"],
        tuple(addresses),
        shown.get("master", ""),
    )


def way(to: str, *how: str, namespace: Path | None = None) -> Way:
    """What the routing table answers; `how` are more words of `ip route get`."""
    said = run([*_entered(namespace), "ip", "-json", "route", "get", to, *how])
    if said.returncode != 0:
        return Way(error=said.stderr.strip().rpartition("answers: ")[2].rpartition("Error: ")[2])
    [route] = json.loads(said.stdout)
    kind = route.get("type")
    return Way(
        route.get("dev", ""),
        route.get("gateway", ""),
        route.get("prefsrc", ""),
        local=kind == "local",
        broadcast=kind == "broadcast",
    )


def neighbours(namespace: Path | None = None) -> dict[tuple[str, str], str]:
    """NUD states by address and link."""
    return {(one["dst"], one["dev"]): one["state"][0] for one in _ip(namespace, "neighbour", "show") if one["state"]}


def tunnel(to: IPAddress, bridge: str, links: Iterable[str]) -> Tunnel | None:
    """By which of the tunnels on a bridge an address is reached, as the rows say that the daemon made."""
    known = _ip(None, "neighbour", "show", "to", str(to), "dev", bridge)
    macs = {one["lladdr"] for one in known if "lladdr" in one}
    for link in links if macs else ():
        rows = json.loads(run(["bridge", "-json", "fdb", "show", "dev", link]).stdout or "[]")
        if found := next((one["dst"] for one in rows if one.get("mac") in macs and "dst" in one), ""):
            return Tunnel(link, found)
    return None


def refusing(to: IPAddress) -> str:
    """The narrowest route of any table that refuses an address."""
    family = "-6" if to.version == 6 else "-4"
    found = []
    for line in run(["ip", family, "route", "show", "table", "all"]).stdout.splitlines():
        kind, _, rest = line.partition(" ")
        if kind not in _REFUSING:
            continue
        text = rest.split()[0]
        network = ip_network("::/0" if family == "-6" else "0.0.0.0/0") if text == "default" else ip_network(text)
        # The kernel has an unreachable default of its own for IPv6, with no better metric than any other route.
        if to in network and "metric 4294967295" not in line:
            found.append((network.prefixlen, " ".join(line.split()).removesuffix(" dev lo")))
    return max(found)[1] if found else ""


def forwarding(version: int, bridge: str) -> dict[str, str]:
    """The settings that let the host forward, by their sysctl names."""
    paths = [["net", "ipv4", "ip_forward"]] if version == 4 else [["net", "ipv6", "conf", "all", "forwarding"]]
    if bridge and version == 4:  # of IPv6 only the setting for all counts
        paths.append(["net", "ipv4", "conf", bridge, "forwarding"])
    return {".".join(path): _setting(path) for path in paths}


def rp_filter(bridge: str) -> int:
    """How the kernel checks the sources of IPv4 that come by a bridge: 0 not, 1 strictly, 2 loosely."""
    values = [_setting(["net", "ipv4", "conf", name, "rp_filter"]) for name in ("all", bridge) if name]
    return max((int(value) for value in values if value.isdigit()), default=0)


def _setting(path: Sequence[str]) -> str:
    with suppress(OSError):
        return Path("/proc/sys", *path).read_text().strip()
    return ""


def hooks() -> dict[str, str]:
    """The hooks of all base chains, by `FAMILY TABLE CHAIN`. Errors: KernelError."""
    said = run(["nft", "-j", "list", "chains"])
    if said.returncode != 0:
        raise KernelError(f"nft: {said.stderr.strip()}")
    chains = (one["chain"] for one in json.loads(said.stdout)["nftables"] if "chain" in one)
    return {f"{one['family']} {one['table']} {one['name']}": one["hook"] for one in chains if "hook" in one}


def words(rules: Iterable[Rule]) -> dict[Rule, str]:
    """Rules of the iptables-nft programs as those list them: the same place in the chain. Others are left out."""
    found = {}
    for rule in rules:
        program = {"ip": "iptables", "ip6": "ip6tables"}.get(rule.family)
        if program is None or not rule.handle:
            continue
        with suppress(KernelError):
            listed = run(["nft", "-a", "list", "chain", rule.family, rule.table, rule.chain]).stdout.splitlines()
            handles = [int(end.group(1)) for line in listed if (end := _HANDLE.search(line)) and "{" not in line]
            lines = run([program, "-w", "5", "-t", rule.table, "-S", rule.chain]).stdout.splitlines()
            rules_of = [line for line in lines if line.startswith("-A ")]
            if len(rules_of) == len(handles) and rule.handle in handles:
                found[rule] = rules_of[handles.index(rule.handle)]
    return found


def legacy_drops(version: int) -> dict[str, int]:
    """How many packets each dropping rule and policy of legacy iptables has counted; {} where it is not in use."""
    program, names = _LEGACY[version]
    with suppress(OSError, KernelError):
        if Path("/proc/self/net", names).read_text().strip():
            return parse_counters(run([program, "-c"]).stdout)
    return {}


def parse_counters(text: str) -> dict[str, int]:
    """Of iptables-save -c what drops or rejects, with its table."""
    table, found = "", {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif policy := _POLICY.match(line):
            found[f"{table}: -P {policy.group(1)} DROP"] = int(policy.group(2))
        elif (rule := _COUNTED.match(line)) and _DROPS.search(rule.group(2)):
            found[f"{table}: {rule.group(2)}"] = int(rule.group(1))
    return found


def _ip(namespace: Path | None, *arguments: str) -> list[dict[str, Any]]:
    said = run([*_entered(namespace), "ip", "-json", *arguments])
    if said.returncode != 0:
        raise KernelError(f"ip {' '.join(arguments)}: {said.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(said.stdout or "[]")
    return found


def _entered(namespace: Path | None) -> list[str]:
    return enter(namespace, []) if namespace else []
