"""
The checks: each turns facts into findings, by itself. Pure.

A check that needs a fact which could not be had is `unknown`, with the reason; so is one that stumbles over something
nobody thought of. Neither keeps another from its verdict.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mdnp.doctor import Facts, Finding, NotKnown, Verdict
from mdnp.doctor.checks import addresses, cluster, daemon, docker, host, limits, names, traffic
from mdnp.model.errors import InvalidParameter

Check = Callable[[Facts], Iterable[Finding]]

CHECKS: Mapping[str, Check] = {
    "configuration": daemon.configuration,
    "daemon-answers": daemon.answers,
    "version": daemon.version,
    "settings-in-force": daemon.settings_in_force,
    "store": daemon.store,
    "plugin-socket": daemon.plugin_socket,
    "duplicate-plugin": daemon.duplicate_plugin,
    "certificates": daemon.certificates,
    "unit-order": daemon.unit_order,
    "docker-answers": docker.answers,
    "docker-version": docker.version,
    "docker-firewall-backend": docker.firewall_backend,
    "kernel-features": host.kernel_features,
    "kernel-modules": host.kernel_modules,
    "libnftables": host.libnftables,
    "sysctls": host.sysctls,
    "kernel-in-sync": daemon.kernel_in_sync,
    "orphans": daemon.orphans,
    "pools-nearly-full": daemon.pools_nearly_full,
    "forward-policy": traffic.forward_policy,
    "br-netfilter": traffic.br_netfilter,
    "foreign-rules": traffic.foreign_rules,
    "iptables-variant": traffic.iptables_variant,
    "mtu": traffic.mtu,
    "subnet-overlap": addresses.subnet_overlap,
    "resolver": addresses.resolver,
    "bridge-ports": limits.bridge_ports,
    "backlog": limits.backlog,
    "neighbour-table": limits.neighbour_table,
    "conntrack-table": limits.conntrack_table,
    "port-range": limits.port_range,
    "disk": limits.disk,
    "permissions": host.permissions,
    "clock": host.clock,
    "etcd-reachable": cluster.etcd_reachable,
    "host-identity": cluster.host_identity,
    "vtep-address": cluster.vtep_address,
    "vxlan": cluster.vxlan,
    "vxlan-port": cluster.vxlan_port,
    "underlay-mtu": cluster.underlay_mtu,
    "cluster-epoch": cluster.epoch,
    "cluster-remarks": cluster.remarks,
    "cluster-networks": cluster.networks_of_all,
    "clock-skew": cluster.clock_skew,
    "names-road": names.road,
    "names-gateway": names.gateway,
    "names-learned": names.learned,
    "names-upstream": names.upstream,
    "names-host": names.host,
}

_STUMBLES = (LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Report:
    """What a check found, the worst first. One that is well may have a remark."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        return self.findings[0].verdict if self.findings else Verdict.OK


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the checks to run, all if none is given. Errors: InvalidParameter for one that there is not."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise InvalidParameter(f"no check {', '.join(unknown)}: there are {', '.join(CHECKS)}")
    return tuple(name for name in CHECKS if not names or name in names)


def judge(facts: Facts, names: Sequence[str] = ()) -> tuple[Report, ...]:
    return tuple(Report(name, _findings(CHECKS[name], facts)) for name in chosen(names))


def _findings(check: Check, facts: Facts) -> tuple[Finding, ...]:
    """Of a check that is interrupted half way also what it has found until then."""
    found: list[Finding] = []
    try:
        found.extend(check(facts))
    except NotKnown as error:
        found.append(_unknown(f"{error}", facts))
    except _STUMBLES as error:
        found.append(_unknown(f"what was read is not as expected: {type(error).__name__}: {error}", facts))
    order = list(Verdict)
    return tuple(sorted(found, key=lambda one: order.index(one.verdict), reverse=True))


def _unknown(reason: str, facts: Facts) -> Finding:
    do = "mend what keeps it from being looked at" if facts.superuser else "run `mdnp doctor` as root"
    return Finding(Verdict.UNKNOWN, f"could not be looked at: {reason}", "", do)
