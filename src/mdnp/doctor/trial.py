"""
Makes what the data plane is made of in a network namespace that is thrown away, and says what could not be made.

Nothing of the host is touched; but the kernel loads the modules that it needs for that, as it will for the daemon.
"""

import os
import subprocess

from mdnp.dataplane.rules import TABLES

_LIMIT_S = 10.0
_NAT = "table inet trial { chain c { type nat hook prerouting priority dstnat; dnat ip to 192.0.2.1; }; }"
_FIB = "table inet trial { chain c { type filter hook prerouting priority 0; fib daddr type local accept; }; }"

# Each line of output is a feature's name, and what was complained of it; "absent" if the program is not there.
_SCRIPT = """
try() {
    name=$1; shift
    if said=$("$@" 2>&1); then said=; else said=$(printf %s "${said:-failed}" | tr '\\n' ' '); fi
    printf '%s\\t%s\\n' "$name" "$said"
}
load() { printf %s "$1" | nft -f - && nft flush ruleset; }
try veth ip link add t0 type veth peer name t1
try bridge ip link add b0 type bridge
try bridge-port ip link set t0 master b0
try hairpin ip link set t0 type bridge_slave hairpin on
try link-group ip link set t0 group 1835298416
try nft-inet nft add table inet trial
try nft-bridge nft add table bridge trial
try nft-nat load "$1"
try nft-fib load "$2"
try nft-owner load "table inet trial { flags owner; }"
try vxlan ip link add x0 type vxlan id 7143424 dstport 4789 local 127.0.0.1 nolearning
if ip link show x0 >/dev/null 2>&1; then
    ip link set x0 master b0
    try neigh-suppress bridge link set dev x0 neigh_suppress on learning off flood off
fi
try tables-inet load "$3"
try tables-bridge load "$4"
"""


def features() -> dict[str, str]:
    """By feature what prevents it, "" if nothing does. Errors: ValueError where no namespace can be made."""
    tables = [f"table {table.family} trial {{{table.text}}}" for table in TABLES]
    new = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    done = subprocess.run(
        ["unshare", *new, "sh", "-c", _SCRIPT, "trial", _NAT, _FIB, *tables],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
    )
    found = dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    if not found:
        raise ValueError(f"no network namespace can be made to try in: {done.stderr.strip() or done.returncode}")
    return found
