"""The host: what its kernel can, how it is set, who may do what, and what time it is."""

from collections.abc import Iterator

from mdnp.dataplane.rules import FORWARDING
from mdnp.doctor import Facts, File, Finding, Unknown, given, need
from mdnp.doctor.checks import networks
from mdnp.doctor.checks.findings import listed, ok, trouble, warning

# Which modules a feature comes with, where the kernel has it in modules.
_MODULES = {
    "veth": "veth",
    "bridge": "bridge",
    "bridge-port": "bridge",
    "hairpin": "bridge",
    "nft-inet": "nf_tables",
    "nft-bridge": "nf_tables, nf_tables_bridge",
    "nft-nat": "nft_nat, nft_chain_nat, nf_nat",
    "nft-fib": "nft_fib_inet",
    "tables-inet": "nft_ct, nft_masq, nft_redir",
    "tables-bridge": "nft_meta_bridge",
}
# What only networks across hosts are made of: `cluster` asks for these.
OF_CLUSTER = frozenset({"vxlan", "neigh-suppress"})
# And what leads questions of names to us: `names` asks for it.
OF_NAMES = frozenset({"nft-owner"})
_OTHERS_MAY = 0o022
_OTHERS_ANY = 0o077
_FUTURE_S = 60.0
_EPOCH_S = 1704067200  # 2024: older than any mdnp


def kernel_features(facts: Facts) -> Iterator[Finding]:
    features = need(facts.features)
    failed = {name: said for name, said in features.items() if said and name not in OF_CLUSTER | OF_NAMES}
    for name, said in failed.items():
        yield trouble(
            f"{name}: {said.strip()}",
            "the data plane is made of it: networks cannot be made",
            f"a kernel with it (modules: {_MODULES.get(name, 'none of their own')}), and the packages iproute2 and"
            " nftables",
        )
    if not failed:
        yield ok(f"{len(features)} features tried")


def kernel_modules(facts: Facts) -> Iterator[Finding]:
    modules = need(facts.modules)
    if modules.modular and not modules.folder:
        yield warning(
            f"the folder lib/modules/{modules.release} of the running kernel is not there",
            "the kernel was probably upgraded: modules that are not loaded by now cannot be",
            "start the host anew",
        )
    elif not modules.modular:
        yield ok(f"kernel {modules.release} has no modules")


def libnftables(facts: Facts) -> Iterator[Finding]:
    if not isinstance(facts.library, Unknown):
        yield ok(f"{facts.library}, {given(facts.nft, 'without the program nft')}")
    elif isinstance(facts.nft, Unknown):
        yield trouble(
            f"neither the library nor the program works: {facts.library.reason}; {facts.nft.reason}",
            "no rule can be made: networks cannot be made, and nothing is published or guarded",
            "install the package libnftables1 (or nftables)",
        )
    else:
        yield warning(
            f"the library cannot be loaded: {facts.library.reason}",
            "the program nft is used instead, at some 20 ms for each change instead of 0.3 ms",
            "install the package libnftables1",
        )


def sysctls(facts: Facts) -> Iterator[Finding]:
    values = need(facts.sysctls)
    seen = networks.seen(facts)
    for family, name in FORWARDING.items():
        users = [one.bridge for one in seen if one.way_out and family in one.families()]
        if users and values.get(name) == "0":
            yield trouble(
                f"{name}=0, but {listed(users)} has a way out by IPv{family}",
                "nothing is forwarded: its containers reach nobody beyond the host, and nobody reaches their ports",
                f"`mdnp repair`, or `sysctl -w {name.replace('/', '.')}=1`; find who sets it, in /etc/sysctl.d",
            )
    for one in seen:
        if one.way_out and 4 in one.families() and values.get(f"net/ipv4/conf/{one.bridge}/route_localnet") == "0":
            yield warning(
                f"net/ipv4/conf/{one.bridge}/route_localnet=0",
                "the host itself does not reach published ports by 127.0.0.1",
                "`mdnp repair` sets it; find who takes it back",
            )
    yield from _reverse_paths(facts)


def _reverse_paths(facts: Facts) -> Iterator[Finding]:
    """Strict filtering drops what comes in by another link than the way back; with one way out there is no other."""
    values = need(facts.sysctls)
    links = {one["dev"] for one in networks.default_routes(facts)}
    whole = values.get("net/ipv4/conf/all/rp_filter", "0")
    strict = [one for one in links if max(whole, values.get(f"net/ipv4/conf/{one}/rp_filter", "0")) == "1"]
    if strict and len(links) > 1 and networks.seen(facts):
        yield warning(
            f"rp_filter is strict on {listed(sorted(strict))}, and there are {len(links)} ways out",
            "published ports do not answer to who comes in by a link that is not the way back to him",
            "loose filtering: `sysctl -w net.ipv4.conf.all.rp_filter=2`",
        )


def permissions(facts: Facts) -> Iterator[Finding]:
    for role, fact in facts.files.items():
        if isinstance(fact, File):
            yield from _of_file(role, fact, facts)
    for fact in facts.files.values():
        need(fact)


def _of_file(role: str, file: File, facts: Facts) -> Iterator[Finding]:
    place = facts.places[role]
    private = role in ("plugin socket", "operator's socket", "database")
    forbidden = _OTHERS_ANY if private else _OTHERS_MAY
    if file.mode & forbidden:
        yield trouble(
            f"the {role} {place} has mode {file.mode:04o}",
            "others than root may change what is promised, and so the host's network"
            if not private
            else "others than root may ask the daemon, or read what it promised",
            f"`chmod {file.mode & ~forbidden:04o} {place}`",
        )
    if file.owner != 0 and facts.superuser:
        yield trouble(
            f"the {role} {place} belongs to user {file.owner}",
            "that user may change what is promised, and so the host's network",
            f"`chown root {place}`",
        )


def clock(facts: Facts) -> Iterator[Finding]:
    told = need(facts.clock)
    behind_s = (told.newest or 0) - told.now
    if told.now < _EPOCH_S:
        yield trouble(
            "the clock was never set", "the history, and what is old enough to be nobody's, go by it", "set the clock"
        )
    elif behind_s > _FUTURE_S:
        yield warning(
            f"the state was written {behind_s / 60:.0f} min in the future: the clock was set back",
            "until then the history is out of order, and nothing of that time is found to be nobody's",
            "set the clock, and keep it by NTP",
        )
    elif not told.synchronised and told.keepers:
        yield warning(
            f"the clock is not synchronised, though {listed(sorted(told.keepers))} runs",
            "the history, and what is old enough to be nobody's, go by it",
            "see why no time server is reached: `timedatectl`, `chronyc tracking`",
        )
    else:
        yield ok("synchronised" if told.synchronised else "nothing keeps it, as the kernel says")
