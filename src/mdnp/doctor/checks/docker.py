"""Docker's engine: whether it answers, how old it is, and with which firewall it works."""

import re
from collections.abc import Iterator

from mdnp.dataplane import naming
from mdnp.doctor import Facts, Finding, Unknown, need
from mdnp.doctor.checks.findings import ok, trouble, unknown, warning

_OLDEST = (20, 10)


def answers(facts: Facts) -> Iterator[Finding]:
    if not isinstance(facts.docker, Unknown):
        return
    if not facts.superuser:
        yield unknown(facts.docker.reason, "", "run `mdnp doctor` as root")
        return
    yield trouble(
        facts.docker.reason,
        "no container starts or stops; orphans are not found, and containers' names are not shown",
        "start Docker (`systemctl start docker`), or name its socket in MDNP_DOCKER_HOST",
    )


def version(facts: Facts) -> Iterator[Finding]:
    said = str(need(facts.docker).version["Version"])
    numbers = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if numbers < _OLDEST:
        yield warning(f"Docker is {said}", "mdnp is not tried with engines before 20.10", "upgrade Docker")
    else:
        yield ok(f"Docker {said}")


def firewall_backend(facts: Facts) -> Iterator[Finding]:
    driver = (need(facts.docker).info.get("FirewallBackend") or {}).get("Driver", "iptables")
    if "nftables" in driver:
        yield ok(f"{driver}: it has no {naming.FORWARD_CHAIN}, and none is needed")
        return
    named = {(chain.by, chain.table, chain.name) for chain in need(facts.chains)}
    makers = {by for by, table, name in named if (table, name) == ("filter", naming.FORWARD_CHAIN)}
    if makers and not makers & {"iptables", "ip6tables"}:
        yield trouble(
            f"Docker's chains are made with {', '.join(sorted(makers))}, but the program iptables here is of the other"
            f" kind: {need(facts.iptables)}",
            f"our rules are not put where Docker's are, and what {naming.FORWARD_CHAIN} should let pass is dropped",
            "`update-alternatives --config iptables`, then restart Docker and mdnp",
        )
    elif not makers and {("iptables", "nat", "DOCKER")} & named:
        yield warning(
            f"Docker's chain {naming.FORWARD_CHAIN} is gone, others of its chains are there",
            "somebody flushed a part of Docker's firewall: its own networks may not work",
            "restart Docker: it makes them anew",
        )
    else:
        yield ok(driver if makers else f"{driver}, but without chains of Docker's")
