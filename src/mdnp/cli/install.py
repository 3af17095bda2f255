"""Puts mdnp under systemd, and takes it out again."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mdnp
from mdnp import config
from mdnp.cli import client
from mdnp.model.errors import Conflict, InvalidParameter

if TYPE_CHECKING:  # the commands import what they need: no other command shall wait for it
    from mdnp.daemon import Leftovers
    from mdnp.install.place import Place
    from mdnp.install.plan import Decision
    from mdnp.install.resolver import Change

TROUBLE = 1

_HERE = Path("/")
_HOST_DNS = "127.0.0.153"  # nobody's, and away from 127.0.0.53
_DONE = {"write": "wrote", "replace": "replaced", "keep": "kept", "remove": "removed", "unchanged": "unchanged"}

_root = click.option(
    "--root", default=_HERE, type=click.Path(path_type=Path, file_okay=False), help="Only files, below this folder [/]."
)
_plan = click.option("--plan", "only_plan", is_flag=True, help="Only show what would be done.")


@click.command()
@_root
@_plan
@click.option("--program", help="What systemd starts [the path of this mdnp].")
@click.option("--package", is_flag=True, help="As packages have them: units in /lib, no record. Only with --root.")
@click.option("--tcp", metavar="HOST:PORT", help="Have Docker find us there, with TLS; certificates are made.")
@click.option("--tls-cert", help="Our certificate, if none is to be made.")
@click.option("--tls-key", help="Its key.")
@click.option("--tls-ca", help="The authority of it and of Docker's.")
@click.option("--docker-cert", help="The certificate that Docker shows.")
@click.option("--docker-key", help="Its key.")
@click.option(
    "--host-dns",
    is_flag=False,
    flag_value=_HOST_DNS,
    metavar="[ADDRESS]",
    help=f"Let this host itself look up NAME.NETWORK.mdnp, by its resolver [{_HOST_DNS}].",
)
def install(
    root: Path, only_plan: bool, program: str | None, package: bool, host_dns: str | None, **asked: str | None
) -> None:
    """Write the systemd units and the configuration file, and have systemd listen for Docker's calls."""
    from mdnp.install import plan, resolver, systemctl, tcp, units  # noqa: PLC0415
    from mdnp.install.place import Place  # noqa: PLC0415

    live = root == _HERE
    _refuse_a_package_of_this_host(package=package, live=live, host_dns=host_dns)
    path = _absolute(program or _own_path())
    place = Place(root)
    recorded = place.recorded()
    beside, given = tcp.files(root, tcp.Asked(**asked), recorded)
    address = _checked(host_dns)
    led = resolver.to_install(root, address, recorded)
    given = {**given, **({"host_dns": address} if address else {})}
    files = (*beside, *led.files, *units.files(path, units.PACKAGES if package else units.OPERATORS, given))
    decisions = plan.to_install(files, place.present({*recorded, *(one.path for one in files)}), recorded)
    if strangers := plan.strangers(decisions):
        raise Conflict(
            f"{', '.join(strangers)}: changed since mdnp wrote it, or another's: nothing was done. Changes belong into"
            f" `systemctl edit {units.SERVICE}`; move the file away, and run this again"
        )
    if live:
        _refuse_what_others_change(path)
        _refuse_beside_others()
    commands = systemctl.to_install(decisions, place.version() != mdnp.__version__) if live else []
    if not only_plan:
        place.put(decisions, mdnp.__version__, recorded=not package)
    _say_files(decisions, only_plan)
    _say_settings(decisions, given)
    _tell_systemd(commands, only_plan)
    _rewrite(place, led, only_plan)
    if not live:
        click.echo(f"# only files, below {root}")
    elif not systemctl.runs():
        click.echo(
            "# no systemd runs here: have `mdnp serve` started before Docker by what starts services; or, once systemd"
            f" runs, `systemctl enable --now {units.SOCKET}`"
        )


@click.command()
@_root
@_plan
@click.option("--purge", is_flag=True, help="Also the state, and what is left of our networks in the kernel.")
@click.option("--yes", is_flag=True, help="Do not ask before a purge.")
def uninstall(root: Path, only_plan: bool, purge: bool, yes: bool) -> None:
    """Take out what `mdnp install` put in. What was changed since stays, and is named."""
    from mdnp.install import plan, resolver, systemctl  # noqa: PLC0415
    from mdnp.install.place import Place  # noqa: PLC0415

    live = root == _HERE
    if purge and not live:
        raise InvalidParameter("--purge is of this host: it does not go with --root")
    place = Place(root)
    recorded = place.recorded()
    decisions = plan.to_uninstall(place.present(recorded), recorded)
    settings = config.load({}, os.environ)
    if live:
        _refuse_while_it_serves(settings)
    if purge:
        _show_leftovers(settings)
        if not only_plan and not yes:
            click.confirm("Take all of this out?", abort=True)
    before, after = systemctl.to_uninstall(decisions) if live and recorded else ([], [])
    _rewrite(place, resolver.to_uninstall(root), only_plan)
    _tell_systemd(before, only_plan)
    if not only_plan:
        place.take_out(decisions)
    _say_files(decisions, only_plan)
    _tell_systemd(after, only_plan)
    _say_what_stays(bool(recorded), purge)
    if purge and not only_plan:
        _purge(settings)


def _refuse_a_package_of_this_host(*, package: bool, live: bool, host_dns: str | None) -> None:
    if package and live:
        raise InvalidParameter("--package is for building one: it needs --root and a folder")
    if package and host_dns:
        raise InvalidParameter("--host-dns is of a host, whose own resolver it is about: it does not go with --package")


def _checked(host_dns: str | None) -> str | None:
    """Errors: InvalidParameter, as for the setting."""
    address = config.load({"host_dns": host_dns}, {}, Path(os.devnull)).host_dns
    return None if address is None else str(address)


def _rewrite(place: "Place", led: "Change", only_plan: bool) -> None:
    """Of /etc/resolv.conf a line is ours, and the rest its writer's."""
    from mdnp.install.resolver import RESOLV_CONF  # noqa: PLC0415

    if led.resolv_conf is None:
        return
    if led.resolv_conf == place.text(RESOLV_CONF):
        click.echo(f"unchanged {RESOLV_CONF}")
        return
    if not only_plan:
        place.rewrite(RESOLV_CONF, led.resolv_conf)
    click.echo(f"{'would change' if only_plan else 'changed'} {RESOLV_CONF}")


def _own_path() -> str:
    """Of the program beside the interpreter, as every venv has it, which stays over upgrades; or of the one called."""
    beside = Path(sys.executable).with_name("mdnp")
    return str(beside if beside.exists() else Path(sys.argv[0]).absolute())


def _absolute(program: str) -> str:
    if not program.startswith("/") or not program.isprintable():
        raise InvalidParameter(f"--program {program!r}: expected an absolute path")
    return program


def _refuse_what_others_change(program: str) -> None:
    """systemd starts it as root: whoever can change it is root from then on."""
    for path in (Path(program), *Path(program).resolve().parents):
        try:
            found = path.stat()
        except OSError as error:
            raise InvalidParameter(f"{path}: {error.strerror}: name the installed mdnp with --program") from error
        if found.st_uid != 0 or found.st_mode & 0o022:
            raise InvalidParameter(
                f"{program} would be started as root, but others than root can change {path}: install mdnp as root, as"
                " with `sudo pipx install mdnp`, and call that one"
            )


def _refuse_beside_others() -> None:
    from mdnp.install import systemctl, units  # noqa: PLC0415

    for folder in (units.PACKAGES, f"/usr{units.PACKAGES}"):
        if Path(folder, units.SOCKET).exists():
            raise Conflict(
                f"{folder}/{units.SOCKET} is there: a package of your distribution has mdnp installed; remove that one"
                " first, or go on with it"
            )
    if _serves(_settings()) and not systemctl.is_active(units.SERVICE):
        raise Conflict("an mdnp serves here that systemd did not start: stop it, and run this again")


def _refuse_while_it_serves(settings: config.Settings) -> None:
    from mdnp.install import units  # noqa: PLC0415

    if _serves(settings):
        raise Conflict(
            f"mdnp serves: stop it with `systemctl stop {units.SOCKET} {units.SERVICE}`, or end its `mdnp serve`, and"
            " run this again. Containers go on running; what Docker asks of their networks fails from then on"
        )


def _serves(settings: config.Settings) -> bool:
    try:
        client.ask(settings.admin_socket, "/version")
    except client.NoDaemon:
        return False
    return True


def _show_leftovers(settings: config.Settings) -> None:
    from mdnp import daemon  # noqa: PLC0415  # half a second of imports that no other command needs

    for line in _leftovers_shown(daemon.leftovers(settings)):
        click.echo(line)


def _leftovers_shown(found: "Leftovers") -> Iterable[str]:
    yield from (f"would remove {path}" for path in found.files)
    yield from found.steps
    if not found.files and not found.steps:
        yield "# nothing is left of mdnp's state and networks"
    if found.used is None:
        yield "# Docker does not answer: whether it still has networks of mdnp is not known"
    for network, containers in (found.used or {}).items():
        on_it = f", and {', '.join(sorted(containers))} on it, which would lose it" if containers else ""
        yield f"# Docker still has the network {network[:12]}{on_it}: `docker network rm` works only while mdnp serves"


def _say_what_stays(was_installed: bool, purge: bool) -> None:
    if not was_installed:
        click.echo("# `mdnp install` has put in no files here; those of a package go with the package")
    elif not purge:
        click.echo("# what was promised stays, and so do networks in the kernel: --purge takes them out")


def _purge(settings: config.Settings) -> None:
    from mdnp import daemon  # noqa: PLC0415

    failures = daemon.purge(settings)
    for failure in failures:
        click.echo(f"mdnp: {failure.step}: {failure.error}", err=True)
    if failures:
        sys.exit(TROUBLE)
    click.echo("# purged: nothing of mdnp's networks is in the kernel. Forwarding and other settings stay as they are")


def _settings() -> config.Settings:
    return config.load({}, os.environ)


def _say_files(decisions: "Iterable[Decision]", only_plan: bool) -> None:
    for one in decisions:
        changes = one.fate not in ("unchanged", "keep")
        said = f"would {one.fate}" if only_plan and changes else _DONE[one.fate]
        click.echo(f"{said} {one.path}" + (": it is not as mdnp wrote it" if one.fate == "keep" else ""))


def _say_settings(decisions: "Iterable[Decision]", given: Mapping[str, str]) -> None:
    """Those that a configuration which is kept may not have."""
    if given and any(one.path == str(config.CONFIG_FILE) and one.fate == "keep" for one in decisions):
        click.echo(f"# {config.CONFIG_FILE} is yours, so put this into it, since the rest goes by it:")
        click.echo("".join(f'{key} = "{value}"\n' for key, value in given.items()), nl=False)


def _tell_systemd(commands: Iterable[Sequence[str]], only_plan: bool) -> None:
    from mdnp.install import systemctl  # noqa: PLC0415

    for command in commands:
        if not only_plan:
            systemctl.tell(*command)
        click.echo(f"{'would run' if only_plan else 'ran'} {systemctl.shown(command)}")
