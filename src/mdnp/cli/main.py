"""The commands. What is slow to import is imported by the command that needs it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import mdnp
from mdnp import config
from mdnp.cli import client, rendering
from mdnp.model.errors import InvalidParameter, MdnpError

TROUBLE = 1
WRONG_USAGE = 2

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


@cli.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file [/etc/mdnp/mdnp.toml].")
@click.option("--socket", help="Where Docker finds us [/run/docker/plugins/mdnp.sock].")
@click.option("--state-dir", help="What was promised is kept here [/var/lib/mdnp].")
@click.option("--docker-host", help="Docker's API, asked outside of calls [unix:///var/run/docker.sock].")
@click.option("--log-level", type=click.Choice(config.LOG_LEVELS), help="[info]")
def serve(file: Path | None, **flags: str | None) -> None:
    """Answer Docker, until stopped."""
    settings = config.load(flags, os.environ, file)
    from mdnp import daemon  # noqa: PLC0415  # half a second of imports that no other command needs

    daemon.serve(settings)


@cli.command()
@click.option("--diff", is_flag=True, help="Only what differs: desired less actual, as commands.")
@_json_flag
def status(diff: bool, as_json: bool) -> None:
    """Show networks, drift and loss. Exit code 1 if there is any."""
    view = _ask("/status")
    if diff:
        _show(view["drift"], as_json, "\n".join)
    else:
        _show(view, as_json, rendering.status)
    if not view["healthy"]:
        sys.exit(TROUBLE)


@cli.group(invoke_without_command=True)
@click.pass_context
def network(context: click.Context) -> None:
    """Networks: ls, inspect."""
    if context.invoked_subcommand is None:
        context.invoke(network_ls)


@network.command("ls")
@_json_flag
def network_ls(as_json: bool = False) -> None:
    """List the networks."""
    _show(_ask("/network"), as_json, rendering.networks)


@network.command("inspect")
@click.argument("name")
@_json_flag
def network_inspect(name: str, as_json: bool) -> None:
    """Everything about one, named by the beginning of its id or by its bridge."""
    _show(_ask(f"/network/{name}"), as_json, rendering.details)


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
@click.argument("name")
@_json_flag
def endpoint_inspect(name: str, as_json: bool) -> None:
    """Everything about one, named by the beginning of its id, its link or its address."""
    _show(_ask(f"/endpoint/{name}"), as_json, rendering.details)


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
@click.argument("name")
@_json_flag
def pool_inspect(name: str, as_json: bool) -> None:
    """Who holds what since when. NAME is the pool, its id, or the beginning of a network's id."""
    _show(_ask(f"/pool/{name}"), as_json, rendering.pool)


@cli.command()
@click.argument("name", metavar="ADDRESS|CONTAINER")
@_json_flag
def history(name: str, as_json: bool) -> None:
    """Who held an address when, or which a container had."""
    _show(_ask(f"/history/{name}"), as_json, rendering.history)


@cli.command()
@click.option("--plan", is_flag=True, help="Only show what would be freed.")
@_json_flag
def gc(plan: bool, as_json: bool) -> None:
    """Free the addresses and pools that nobody holds. Docker is asked twice, some seconds apart."""
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


def _settings() -> config.Settings:
    return config.load({}, os.environ)


def _ask(path: str, method: str = "GET") -> Any:
    return client.ask(_settings().admin_socket, path, method)


def _show(view: Any, as_json: bool, draw: Callable[[Any], str]) -> None:
    click.echo(json.dumps(view, indent=2) if as_json else draw(view))
