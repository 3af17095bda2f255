"""The daemon: whether Docker finds it, and whether what it promised is true."""

from collections.abc import Iterator, Mapping, Sequence

import mdnp
from mdnp.config import Settings, shown
from mdnp.doctor import Daemon, Facts, Finding, Units, Unknown, given, need
from mdnp.doctor.checks import networks
from mdnp.doctor.checks.findings import listed, ok, trouble, unknown, warning
from mdnp.doctor.claims import image_of, missing

Unit = Mapping[str, Sequence[str]]
_ID = 12
_DAY_S = 86400
_SOON_S = 30 * _DAY_S
_PLACES = ("socket", "state_dir", "runtime_dir", "docker_host")
_NEARLY_FULL = 0.9


def configuration(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.configuration, Unknown):
        yield trouble(
            f"the settings cannot be used: {facts.configuration.reason}",
            "the daemon does not start with them; what is said here is without them",
            "correct them; `mdnp config` shows what is in force",
        )


def answers(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.daemon, Daemon):
        return
    state = facts.units.state if isinstance(facts.units, Units) else ""
    if state == "inactive" and _is_served(facts):
        yield ok("not started yet: systemd holds its socket, and starts it at Docker's first call")
    elif facts.superuser:
        yield trouble(
            f"the daemon does not answer: {facts.daemon.reason}" + (f"; systemd says: {state}" if state else ""),
            "running containers go on, but with our networks none starts or stops, and nothing is repaired",
            "`systemctl start mdnp`, or `mdnp serve`; `journalctl -u mdnp` says why it ended",
        )
    else:
        yield unknown(f"the daemon was not asked: {facts.daemon.reason}", "", "run `mdnp doctor` as root")


def version(facts: Facts) -> Iterator[Finding]:
    running = str(need(facts.daemon).status["version"])
    if running != mdnp.__version__:
        yield warning(
            f"the daemon is mdnp {running}, and this command {mdnp.__version__}",
            "what was installed last is not what runs",
            "`systemctl restart mdnp`; running containers do not notice",
        )
    else:
        yield ok(running)


def settings_in_force(facts: Facts) -> Iterator[Finding]:
    """
    Only what is configured to be another than the default: the daemon's own flags, which are not seen here, may say the
    rest. Where it has its files was taken from itself.
    """
    if isinstance(facts.configuration, Unknown):
        return
    running, now, usual = need(facts.daemon).settings, shown(facts.settings), shown(Settings())
    for name in sorted(set(now) - set(_PLACES)):
        if now[name] not in (usual[name], running.get(name, now[name])):
            yield warning(
                f"{name} is {running[name]!r} in the daemon, and {now[name]!r} in the configuration",
                "what was configured last is not in force",
                "restart the daemon; running containers do not notice",
            )


def store(facts: Facts) -> Iterator[Finding]:
    said = need(facts.daemon).status["store"]["trouble"]
    if said:
        yield trouble(said, "until it can be written, Docker's calls fail", "make room, or mend the disk")


def plugin_socket(facts: Facts) -> Iterator[Finding]:
    path = facts.settings.socket
    file = need(facts.files["plugin socket"])
    by_file = any(one.suffix != ".sock" for one in given(facts.specs, ()))
    if file is None and (by_file or _managed(facts)):
        yield ok("Docker finds the plugin by a file, or runs it itself")
        return
    why = "Docker does not find the plugin: what uses its networks fails after 15 s of waiting"
    if file is None:
        yield trouble(f"{path} is not there", why, "start the daemon; or name its --socket in MDNP_SOCKET")
    elif file.kind != "socket":
        yield trouble(f"{path} is a {file.kind} and no socket", why, f"remove it, and restart the daemon: `rm {path}`")
    elif not _is_served(facts):
        yield trouble(
            f"{path} is there, but nobody listens on it", why, "start the daemon: it takes the place of the file"
        )
    elif not _is_looked_at(facts) and not by_file:
        do = f"a file /etc/docker/plugins/{path.stem}.spec with unix://{path}, or the socket in /run/docker/plugins"
        yield trouble(f"{path} is not where Docker looks, and no file leads there", why, do)


def _is_looked_at(facts: Facts) -> bool:
    """Whether Docker finds the socket without a file: in its folder, or in one that is in that."""
    path = facts.settings.socket
    return "plugins" in (path.parent.name, path.parent.parent.name)


def _is_served(facts: Facts) -> bool:
    """The daemon binds its socket under another name, and renames the file when it listens."""
    path = facts.settings.socket
    waiting = str(path.with_name(f".{path.name}."))
    return any(name == str(path) or name.startswith(waiting) for name in need(facts.listening))


def duplicate_plugin(facts: Facts) -> Iterator[Finding]:
    path = facts.settings.socket
    there = need(facts.files["plugin socket"]) is not None and _is_looked_at(facts)
    ways = [*[str(path)] * there, *map(str, need(facts.specs)), *_managed(facts)]
    if len(ways) > 1:
        yield warning(
            f"{path.stem} can be found in more than one way: {listed(ways)}",
            "Docker takes the first that is there, and another one when it is not: they may lead to two daemons, with"
            " two records over one kernel",
            "keep one of them, and remove the others",
        )


def _managed(facts: Facts) -> list[str]:
    """Plugins that Docker itself runs under our name: it lists them with their tag."""
    if isinstance(facts.docker, Unknown):
        return []
    listed_plugins = (facts.docker.info.get("Plugins") or {}).get("Network") or ()
    return [one for one in listed_plugins if ":" in one and image_of(one) == facts.settings.socket.stem]


def certificates(facts: Facts) -> Iterator[Finding]:
    now, ends = need(facts.clock).now, need(facts.certificates)
    of_etcd = _of_etcd(facts)
    for file, end in ends.items():
        if file in of_etcd:
            why = "without it the daemon and etcd do not know each other: this host is cut off from the others"
            do = "make a new one, and restart mdnp (and etcd, if it shows it too)"
        else:
            why = "without it Docker and the daemon do not know each other over TCP, and no call is answered"
            do = "make a new one, and restart mdnp and Docker; docs/operating.md, Discovery over TCP, says how"
        if isinstance(end, Unknown):
            yield trouble(f"certificate {file} cannot be read: {end.reason}", why, do)
        elif end < now:
            yield trouble(f"certificate {file} has expired {(now - end) / _DAY_S:.0f} days ago", why, do)
        elif end < now + _SOON_S:
            yield warning(f"certificate {file} expires in {(end - now) / _DAY_S:.0f} days", why, do)
    if not ends:
        yield ok("none is in use")


def _of_etcd(facts: Facts) -> set[str]:
    told = facts.daemon.settings if isinstance(facts.daemon, Daemon) else shown(facts.settings)
    return {told.get(name, "") for name in ("etcd_cert", "etcd_ca")}


def unit_order(facts: Facts) -> Iterator[Finding]:
    units = need(facts.units)
    socket, service = units.units["mdnp.socket"], units.units["mdnp.service"]
    if socket is not None:
        yield from _of_socket(socket, units)
        yield from _of_service(service)
    elif service is not None:
        yield trouble(
            "there is mdnp.service, but no mdnp.socket",
            "while the daemon restarts, and until it has started, Docker's calls find nobody and fail",
            "`mdnp install` writes both",
        )
    elif units.runs and not _managed(facts):
        yield warning(
            "systemd has no units of mdnp",
            "after a start of the host nobody starts the daemon, and Docker waits for it in vain",
            "`mdnp install`",
        )
    else:
        yield ok("no units here")


def _of_socket(socket: Unit, units: Units) -> Iterator[Finding]:
    docker = units.units["docker.service"] or {}
    wanted = {*docker.get("Unit.Wants", ()), *docker.get("Unit.Requires", ())}
    if "mdnp.socket" not in units.enabled and "mdnp.socket" not in wanted:
        yield trouble(
            "mdnp.socket is not enabled",
            "after a start of the host Docker waits 15 s for each thing that needs the plugin, and then fails",
            "`systemctl enable --now mdnp.socket`",
        )
    early = "no" not in [one.lower() for one in socket.get("Unit.DefaultDependencies", ())]
    before = "docker.service" in socket.get("Unit.Before", ()) or "mdnp.socket" in docker.get("Unit.After", ())
    if "docker.service" in socket.get("Unit.After", ()) or not (early or before):
        yield trouble(
            "mdnp.socket is not ordered before docker.service",
            "an engine that starts its containers first does not find the plugin",
            "Before=docker.service in the [Unit] of mdnp.socket; `mdnp install` writes it so",
        )
    bound = [key for key in ("PartOf", "BindsTo", "Requires") if "docker.service" in socket.get(f"Unit.{key}", ())]
    if bound:
        yield warning(
            f"mdnp.socket stops with docker.service ({bound[0]}=)",
            "when Docker is restarted its calls find nobody",
            f"take {bound[0]}=docker.service out of mdnp.socket",
        )


def _of_service(service: Unit | None) -> Iterator[Finding]:
    if service is None:
        yield trouble("there is mdnp.socket, but no mdnp.service", "nobody answers calls", "`mdnp install`")
    elif "docker.service" in service.get("Unit.After", ()):
        yield trouble(
            "mdnp.service waits for docker.service (After=)",
            "Docker waits for the plugin while it starts: each waits for the other",
            "take After=docker.service out of mdnp.service",
        )


def kernel_in_sync(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.daemon, Daemon):
        yield from _as_told(facts.daemon)
        return
    links = [one["ifname"] for one in need(facts.links)]
    gone = [f"{link} of {whose}" for link, whose in missing(need(facts.docker), facts.settings.socket.stem, links)]
    if gone:
        yield trouble(
            f"the kernel does not have {listed(gone)}",
            "what Docker thinks is connected is not; and no daemon is there to repair it",
            "start the daemon; then restart the containers that `mdnp status` calls lost",
        )
    else:
        yield ok("the links that Docker's networks and containers need are there; without the daemon no more is known")


def _as_told(daemon: Daemon) -> Iterator[Finding]:
    drift, lost = daemon.status["drift"], daemon.status["lost"]
    if drift:
        because = f" because: {daemon.status['trouble']}" if daemon.status["trouble"] else ""
        yield trouble(
            f"the kernel is not as promised; missing steps: {listed(drift)}{because}",
            "what these steps make does not work",
            "remove what is in their way; `mdnp repair` tries again, `mdnp status --diff` shows what is left",
        )
    if lost:
        yield trouble(
            f"lost: {listed(lost)}",
            "its container has no network any more, and the other end cannot be made again",
            "restart its container",
        )


def orphans(facts: Facts) -> Iterator[Finding]:
    names = sorted(need(facts.unclaimed))
    if names:
        short = [" ".join(word[:_ID] for word in name.split(" ")) for name in names]
        yield warning(
            f"Docker does not have {listed(short)}",
            "addresses and ports stay taken for nobody",
            "`mdnp gc --plan` shows them, `mdnp gc` frees them",
        )


def pools_nearly_full(facts: Facts) -> Iterator[Finding]:
    daemon = need(facts.daemon)
    for pool in daemon.pools:
        if pool["nearly_full"]:
            made = trouble if not pool["free"] else warning
            yield made(
                f"pool {pool['pool']} has {pool['free']} of {pool['size']} addresses left",
                "without a free address no container starts on its networks",
                f"`mdnp pool inspect {pool['pool']}` shows who holds them; make a larger network, or `mdnp gc`",
            )
    ours = {pool["pool"] for pool in daemon.pools}
    for view, one in zip(daemon.networks, networks.seen(facts), strict=True):
        for subnet in one.subnets:
            size = subnet.num_addresses - (2 if subnet.version == 4 and subnet.prefixlen < 31 else 0)
            used = view["endpoints"] + one.way_out
            if str(subnet) not in ours and used >= _NEARLY_FULL * size:
                yield warning(
                    f"subnet {subnet} of {one.bridge} has {max(size - used, 0)} of {size} addresses left",
                    "without a free address no container starts on its network",
                    "make a larger network",
                )
