"""`mdnp trace`: the way of a packet, hop by hop."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mdnp import config
from mdnp.cli import client, completion
from mdnp.model.errors import MdnpError

_ENDED_BADLY = 1
_LIMIT_S = 1.0


@click.command()
@click.argument("container", shell_complete=completion.containers)
@click.argument("target", metavar="TARGET[:PORT][/udp]")
@click.option("--json", "as_json", is_flag=True, help="The same values as JSON.")
def trace(container: str, target: str, as_json: bool) -> None:
    """
    Walk a packet's way from CONTAINER to TARGET: who lets it pass, who changes it, at which hop and by which rule it
    dies. It is really sent: a ping, or with a port a TCP connection (which is closed at once), or a UDP datagram.

    TARGET is an address, a container, or a name that Docker's DNS knows in CONTAINER. [IPV6]:PORT is written with
    brackets. Exit code 1 if there is no answer. Needs root, and Docker; the daemon need not run.
    """
    from mdnp.trace import target as targets  # noqa: PLC0415  # no other command needs it
    from mdnp.trace import tracer, walk  # noqa: PLC0415

    wanted = targets.parse(target)
    settings = config.load({}, os.environ)
    facts = tracer.trace(settings.docker_socket, container, wanted, _hosts(settings.admin_socket))
    walked = walk.walk(facts)
    view = walk.view(facts, walked)
    click.echo(json.dumps(view, indent=2) if as_json else "\n".join(_lines(view)))
    if view["answer"] != "answered":
        sys.exit(_ENDED_BADLY)


def _hosts(admin_socket: Path) -> dict[str, str]:
    """The names of the cluster's hosts by the address of their tunnels, if the daemon runs and is in one."""
    try:
        return {one["vtep"]: one["name"] for one in client.ask(admin_socket, "/host", limit_s=_LIMIT_S)}
    except MdnpError:
        return {}


def _lines(view: Mapping[str, Any]) -> Iterator[str]:
    hops = view["hops"]
    kinds = max(len(hop["kind"]) for hop in hops)
    for hop in hops:
        rule = f": {hop['rule']}" if hop["rule"] else ""
        nat = f"; {hop['nat']}" if hop["nat"] else ""
        yield f"{hop['hop']:2}  {hop['kind']:{kinds}}  {hop['place']}: {hop['what']}{rule}{nat}"
    yield from (f"# {remark}" for remark in view["remarks"])
    yield f"# {view['verdict']}"
