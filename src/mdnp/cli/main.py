"""The commands. What is slow to import is imported by the command that needs it."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import mdnp
from mdnp import config
from mdnp.cli import client, cluster, completion, install, rendering
from mdnp.cli.doctor import doctor
from mdnp.cli.trace import trace
from mdnp.model.errors import InvalidParameter, MdnpError

TROUBLE = 1
WRONG_USAGE = 2

_WATCH_S = 2.0
_CLEAR = "\033[H\033[2J\033[3J"

_json_flag = click.option("--json", "as_json", is_flag=True, help="The same values as JSON.")


def main() -> None:
    """Exit codes: 0 well, 1 trouble found, 2 wrong usage."""
    try:
        cli.main(prog_name="mdnp")
    except InvalidParameter as error:
        click.echo(f"mdnp: {error}", err=True)
        sys.exit(WRONG_USAGE)
    except MdnpError as error:
        click.echo(f"mdnp: {error}", err=True)
        sys.exit(TROUBLE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Networks for plain Docker: the daemon that Docker calls, and what there is to see of it."""


cli.add_command(completion.completion)


@cli.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file [/etc/mdnp/mdnp.toml].")
@click.option("--socket", help="Where Docker finds us [/run/docker/plugins/mdnp.sock].")
@click.option("--state-dir", help="What was promised is kept here [/var/lib/mdnp].")
@click.option("--docker-host", help="Docker's API, asked outside of calls [unix:///var/run/docker.sock].")
@click.option("--listen", help="Where Docker may call us besides, with TLS: tcp://HOST:PORT (needs the next three).")
@click.option("--tls-cert", help="Our certificate, PEM.")
@click.option("--tls-key", help="Its key, PEM.")
@click.option("--tls-ca", help="The authority whose certificate a caller must show, PEM.")
@click.option(
    "--etcd", multiple=True, metavar="URL", help="A server by which hosts share networks, each in turn [none]."
)
@click.option("--host-address", metavar="ADDRESS", help="Where other hosts send frames to [that of the way out].")
@click.option("--metrics", metavar="ADDRESS:PORT", help="Loopback port for Prometheus, as 127.0.0.1:9677 [off].")
@click.option("--host-dns", metavar="ADDRESS", help="Loopback address for the host's own resolver [off].")
@click.option("--log-level", type=click.Choice(config.LOG_LEVELS), help="[info]")
@click.option("--log-format", type=click.Choice(config.LOG_FORMATS), help="[text]")
def serve(file: Path | None, etcd: tuple[str, ...], **flags: str | None) -> None:
    """Answer Docker, until stopped."""
    settings = config.load({**flags, "etcd": " ".join(etcd) or None}, os.environ, file)
    from mdnp import daemon  # noqa: PLC0415  # half a second of imports that no other command needs

    daemon.serve(settings)


@cli.command()
@click.option("--diff", is_flag=True, help="Only what differs: desired less actual, as commands.")
@click.option("--watch", is_flag=True, help=f"Again every {_WATCH_S:g} s, until interrupted.")
@_json_flag
def status(diff: bool, watch: bool, as_json: bool) -> None:
    """Show networks, drift, loss, and how all is that mdnp stands on. Exit code 1 if there is trouble."""
    while watch:
        shown = _status(diff, as_json)[0]
        # The whole screen at once, so that nothing flickers; what is no terminal gets one look after the other.
        click.echo(f"{_CLEAR}{shown}" if sys.stdout.isatty() else shown)
        time.sleep(_WATCH_S)
    shown, healthy = _status(diff, as_json)
    click.echo(shown)
    if not healthy:
        sys.exit(TROUBLE)


def _status(diff: bool, as_json: bool) -> tuple[str, bool]:
    view = _ask("/status")
    shown = view["drift"] if diff else view
    if as_json:
        return json.dumps(shown, indent=2), view["healthy"]
    return "\n".join(shown) if diff else rendering.status(view), view["healthy"]


@cli.command()
@_json_flag
def repair(as_json: bool) -> None:
    """
    Look at everything now, and put back what others changed. Exit code 1 if something stays wrong.

    The daemon does so by itself as soon as the kernel tells of a change, and every 30 s; `mdnp status --diff` shows
    what would be done.
    """
    view = _ask("/repair", "POST")
    _show(view, as_json, rendering.repair)
    if view["failures"] or view["lost"]:
        sys.exit(TROUBLE)


@cli.group(invoke_without_command=True)
@click.pass_context
def network(context: click.Context) -> None:
    """Networks: ls, inspect; of the whole cluster: create, rm."""
    if context.invoked_subcommand is None:
        context.invoke(network_ls)


@network.command("ls")
@_json_flag
def network_ls(as_json: bool = False) -> None:
    """List the networks."""
    _show(_ask("/network"), as_json, rendering.networks)


@network.command("inspect")
@click.argument("name", shell_complete=completion.networks)
@_json_flag
def network_inspect(name: str, as_json: bool) -> None:
    """Everything about one, named by the beginning of its id, its name or its bridge."""
    _show(_ask(f"/network/{name}"), as_json, rendering.details)


network.add_command(cluster.network_create)
network.add_command(cluster.network_rm)


@cli.group(invoke_without_command=True)
@click.pass_context
def endpoint(context: click.Context) -> None:
    """Endpoints: ls, inspect."""
    if context.invoked_subcommand is None:
        context.invoke(endpoint_ls)


@endpoint.command("ls")
@_json_flag
def endpoint_ls(as_json: bool = False) -> None:
    """List the endpoints."""
    _show(_ask("/endpoint"), as_json, rendering.endpoints)


@endpoint.command("inspect")
@click.argument("name", shell_complete=completion.endpoints)
@_json_flag
def endpoint_inspect(name: str, as_json: bool) -> None:
    """Everything about one, named by its container, its address, its link or the beginning of its id."""
    _show(_ask(f"/endpoint/{name}"), as_json, rendering.details)


@cli.group()
def port() -> None:
    """Published ports: ls. `docker ps` does not show those of a plugin."""


@port.command("ls")
@_json_flag
def port_ls(as_json: bool) -> None:
    """List the published ports."""
    _show(_ask("/port"), as_json, rendering.ports)


@cli.group(invoke_without_command=True)
@click.pass_context
def pool(context: click.Context) -> None:
    """Pools of addresses: ls, inspect."""
    if context.invoked_subcommand is None:
        context.invoke(pool_ls)


@pool.command("ls")
@_json_flag
def pool_ls(as_json: bool = False) -> None:
    """List the pools, and how full they are."""
    _show(_ask("/pool"), as_json, rendering.pools)


@pool.command("inspect")
@click.argument("name", shell_complete=completion.pools)
@_json_flag
def pool_inspect(name: str, as_json: bool) -> None:
    """Who holds what since when. NAME is the pool, its id, or the beginning of a network's id."""
    _show(_ask(f"/pool/{name}"), as_json, rendering.pool)


@cli.command()
@click.argument("name", metavar="ADDRESS|CONTAINER", shell_complete=completion.containers)
@_json_flag
def history(name: str, as_json: bool) -> None:
    """Who held an address when, or which a container had."""
    _show(_ask(f"/history/{name}"), as_json, rendering.history)


@cli.command()
@click.option("--plan", is_flag=True, help="Only show what would be freed.")
@_json_flag
def gc(plan: bool, as_json: bool) -> None:
    """Free what Docker does not have: networks, endpoints, addresses, pools. It is asked twice, some seconds apart."""
    view = _ask("/gc", "GET" if plan else "POST")
    _show(view, as_json, lambda found: rendering.orphans(found, "would free" if plan else "freed"))


@cli.command("config")
@_json_flag
def show_config(as_json: bool) -> None:
    """Show the settings in force."""
    try:
        view, remark = _ask("/config"), ""
    except client.NoDaemon:
        view, remark = config.shown(_settings()), "# no daemon answers; it would start with these\n"
    _show(view, as_json, lambda values: remark + rendering.details(values))


@cli.command()
@_json_flag
def version(as_json: bool) -> None:
    """Show the version of this command and of the daemon, if one runs."""
    try:
        daemon = _ask("/version")["version"]
    except client.NoDaemon:
        daemon = None
    _show({"mdnp": mdnp.__version__, "daemon": daemon}, as_json, rendering.details)


cli.add_command(cluster.host)
cli.add_command(doctor)
cli.add_command(install.install)
cli.add_command(install.uninstall)
cli.add_command(trace)


def _settings() -> config.Settings:
    return config.load({}, os.environ)


def _ask(path: str, method: str = "GET") -> Any:
    return client.ask(_settings().admin_socket, path, method)


def _show(view: Any, as_json: bool, draw: Callable[[Any], str]) -> None:
    click.echo(json.dumps(view, indent=2) if as_json else draw(view))
