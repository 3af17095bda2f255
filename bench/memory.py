"""
The daemon's memory and what it computes when nothing happens: alone and in a cluster, without and with endpoints, and
after published ones have come and gone.

PSS shares what several processes have in common; here it is nearly RSS, since nobody else runs Python from these files.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.client import Client, house
from bench.crowd import attach, come, go, publish
from bench.member import Member
from rig.etcd import Etcd
from rig.host import GATEWAY, Underlay
from rig.sandbox import Run

_SIZES = (0, 100, 1000)
_CHURN = (1000, 2000)  # further endpoints that come and go, one after the other
_SETTLED_S = 5.0
_WATCHED_S = 60.0  # two looks at the kernel, one at Docker


def run() -> list[dict[str, Any]]:
    """A row for each state; MiB, and the seconds of CPU time that an idle hour would take."""
    rows = [_alone(size) for size in _SIZES]
    rows += _churned()
    with Run() as rig:
        underlay = Underlay(rig)
        etcd = Etcd(underlay, address=str(GATEWAY.ip))
        etcd.start()
        member = Member(underlay, "a", etcd.url)
        rows.append(_watched("in a cluster", 0, member.plugin.pid, member.cpu_s))
        asyncio.run(member.network())
        rows.append(_watched("in a cluster, one network", 0, member.plugin.pid, member.cpu_s))
    return rows


def _alone(size: int) -> dict[str, Any]:
    with house() as one, one.daemon() as path:
        if size:
            asyncio.run(_crowd(path, size))
        return _watched("alone", size, one.pid, one.cpu_s)


def _churned() -> list[dict[str, Any]]:
    """A row after each share of the churn: what the second has more than the first is what is never given back."""
    rows = []
    with house() as one, one.daemon() as path:
        asyncio.run(_crowd(path, 0))
        for more in _CHURN:
            asyncio.run(_churn(path, more))
            rows.append(_watched(f"alone, {more:,} more came and went", 0, one.pid, one.cpu_s))
    return rows


async def _churn(path: Path, count: int) -> None:
    client = await Client.open(path)
    for number in range(count):
        await come(client, number)
        await publish(client, number)
        await go(client, number)
    client.close()


async def _crowd(path: Path, size: int) -> None:
    client = await Client.open(path)
    await attach(client, 0, size)
    client.close()


def _watched(where: str, endpoints: int, pid: int, cpu_s: Callable[[], float]) -> dict[str, Any]:
    time.sleep(_SETTLED_S)
    before = cpu_s()
    time.sleep(_WATCHED_S)
    spent = cpu_s() - before
    parts = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    rss, pss = (int(parts[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    return {
        "where": where,
        "endpoints": endpoints,
        "rss_mib": round(rss, 1),
        "pss_mib": round(pss, 1),
        "cpu_s_an_hour": round(spent * 3600 / _WATCHED_S, 1),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
