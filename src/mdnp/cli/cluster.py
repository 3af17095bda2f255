"""Hosts of the cluster, and networks on all of them."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from mdnp import config
from mdnp.cli import client, completion, rendering
from mdnp.model.errors import InvalidParameter

TROUBLE = 1

# Docker makes a network in a second or two; what takes longer is not waited for, and goes on by itself.
_WAIT_S = 20.0
_AGAIN_S = 0.2

_View = Mapping[str, Any]
_json_flag = click.option("--json", "as_json", is_flag=True, help="The same values as JSON.")


@click.group(invoke_without_command=True)
@click.pass_context
def host(context: click.Context) -> None:
    """Hosts of the cluster: ls, inspect, remove."""
    if context.invoked_subcommand is None:
        context.invoke(host_ls)


@host.command("ls")
@_json_flag
def host_ls(as_json: bool = False) -> None:
    """List the hosts, and whether they are alive."""
    _show(_ask("/host"), as_json, rendering.hosts)


@host.command("inspect")
@click.argument("name", metavar="HOST", shell_complete=completion.hosts)
@_json_flag
def host_inspect(name: str, as_json: bool) -> None:
    """Everything about one, named by its name, its VTEP, its id or the beginning of that."""
    _show(_ask(f"/host/{name}"), as_json, rendering.details)


@host.command("remove")
@click.argument("name", metavar="HOST", shell_complete=completion.hosts)
@click.option("--force", is_flag=True, help="Also one that is alive: its containers lose these networks.")
@click.option("--yes", is_flag=True, help="Do not ask before.")
def host_remove(name: str, force: bool, yes: bool) -> None:
    """
    Take a host that will not return out of the cluster: its addresses and blocks are free for the others.

    If it returns all the same, it first takes its endpoints out of these networks, and joins anew.
    """
    view = _ask(f"/host/{name}")
    click.echo(rendering.details(view))
    if not yes:
        click.confirm("Take it out of the cluster?", abort=True)
    _ask(f"/host/{view['id']}", "DELETE", {"force": force})
    click.echo(f"removed {view['name']} {view['id']}: its addresses and blocks are free")


@click.command("create")
@click.argument("name")
@click.option("--subnet", "subnets", multiple=True, required=True, help="Its addresses: IPv4, IPv6, or one of each.")
@click.option("--gateway", "gateways", multiple=True, help="Address of the gateway in a subnet [the first usable].")
@click.option("--ip-range", "ranges", multiple=True, help="The part of a subnet that containers get addresses from.")
@click.option(
    "--aux-address", "auxiliary", multiple=True, metavar="NAME=IP", help="An address that is somebody else's."
)
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="As of `docker network create -o`.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the Docker network.")
@click.option("--internal", is_flag=True, help="Without a way out.")
@click.option("--ipv6", is_flag=True, help="Refuse to make it without an IPv6 subnet.")
@_json_flag
def network_create(name: str, as_json: bool, **asked: Any) -> None:
    """
    Make a network on every host of the cluster, through each one's own daemon and Docker; on hosts that join later too.

    Exit code 1 if a host could not make it; it goes on trying.
    """
    for pairs in ("auxiliary", "options", "labels"):
        asked[pairs] = dict(_pair(text) for text in asked[pairs])
    _ask("/network", "POST", {"name": name, **asked})
    _follow(name, as_json, "made")


@click.command("rm")
@click.argument("name", shell_complete=completion.declared)
@_json_flag
def network_rm(name: str, as_json: bool) -> None:
    """
    Remove a network that `mdnp network create` made, from every host of the cluster.

    Exit code 1 if a host could not remove it, as while containers are on it; it goes on trying.
    """
    _ask(f"/network/{name}", "DELETE")
    _follow(name, as_json, "removed")


def _follow(name: str, as_json: bool, end: str) -> None:
    """Show what each host makes of it as it becomes known, until all that are alive have said so."""
    shown: set[str] = set()
    until = time.monotonic() + _WAIT_S
    while True:
        view = _ask(f"/declared/{name}")
        rows: Sequence[_View] = view["hosts"]
        told = [one for one in rows if one["state"] != "pending"]
        awaited = [one for one in rows if one["state"] == "pending" and one["liveness"] == "alive"]
        over = not awaited or time.monotonic() >= until
        if not as_json:
            _say((one for one in (rows if over else told) if one["id"] not in shown), end)
        shown |= {one["id"] for one in told}
        if over:
            break
        time.sleep(_AGAIN_S)
    if as_json:
        click.echo(json.dumps(view, indent=2))
    if awaited or any(one["state"] == "failed" for one in rows):
        sys.exit(TROUBLE)


def _say(rows: Iterable[_View], end: str) -> None:
    for row in rows:
        click.echo(f"{row['name']}  {_outcome(row, end)}")


def _outcome(row: _View, end: str) -> str:
    if row["liveness"] != "alive" and row["state"] != end:
        return f"pending: the host is not alive ({row['liveness']}); done when it returns"
    if row["state"] == "pending":
        return f"pending: nothing heard of it in {_WAIT_S:g} s; `mdnp status` shows what becomes of it"
    return f"failed: {row['error']}" if row["state"] == "failed" else str(row["state"])


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidParameter(f"{text!r}: expected KEY=VALUE")
    return key, value


def _ask(path: str, method: str = "GET", body: object = None) -> Any:
    return client.ask(config.load({}, os.environ).admin_socket, path, method, body=body)


def _show(view: Any, as_json: bool, draw: Callable[[Any], str]) -> None:
    click.echo(json.dumps(view, indent=2) if as_json else draw(view))
