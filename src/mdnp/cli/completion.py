"""
Completion in bash, zsh and fish: the script for a shell, and the names that a running daemon knows.

Whoever presses TAB waits: the daemon is asked for a second at most, and what cannot be asked offers nothing, silently.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from mdnp import config
from mdnp.cli import client
from mdnp.cli.rendering import SHORT
from mdnp.model.errors import MdnpError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")

_LIMIT_S = 1.0

# A name that the commands take, and what a shell may show beside it.
_Offer = tuple[str, str]
_Row = Mapping[str, Any]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """
    Print what makes a shell complete mdnp's commands, options and names.

    \b
    bash  mdnp completion bash >/usr/share/bash-completion/completions/mdnp
    zsh   mdnp completion zsh >/usr/local/share/zsh/site-functions/_mdnp
    fish  mdnp completion fish >/etc/fish/completions/mdnp.fish

    Or for one bash or zsh only: eval "$(mdnp completion bash)"
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415  # only here and at a TAB

    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101  # click has a class for each of SHELLS
    click.echo(kind(context.find_root().command, {}, "mdnp", "_MDNP_COMPLETE").source(), nl=False)


def networks(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The names, ids and bridges of networks."""
    return _offered("/network", _names_of_network, incomplete)


def endpoints(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The containers, ids, links and addresses of endpoints."""
    return _offered("/endpoint", _names_of_endpoint, incomplete)


def pools(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The pools, by their network."""
    return _offered("/pool", _names_of_pool, incomplete)


def hosts(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The names, ids and VTEPs of the cluster's hosts."""
    return _offered("/host", _names_of_host, incomplete)


def declared(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The networks that `mdnp network create` made."""
    return _offered("/declared", _names_of_declared, incomplete)


def containers(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The containers that have endpoints, as far as Docker told, and their addresses."""
    return _offered("/endpoint", _holders_of_endpoint, incomplete)


def _names_of_network(row: _Row) -> Iterable[_Offer]:
    subnets = ", ".join(subnet["pool"] for subnet in row["subnets"])
    return _known((row["name"], subnets), (row["id"][:SHORT], f"{row['name']} {subnets}"), (row["bridge"], subnets))


def _names_of_endpoint(row: _Row) -> Iterable[_Offer]:
    about = f"{row['container']} {', '.join(row['addresses'])}"
    return [*_holders_of_endpoint(row), (row["id"][:SHORT], about), (row["host_end"], about)]


def _holders_of_endpoint(row: _Row) -> Iterable[_Offer]:
    addresses = [address.partition("/")[0] for address in row["addresses"]]
    about = row["container"] or row["host_end"]
    return _known((row["container"], ", ".join(addresses)), *((address, about) for address in addresses))


def _known(*offers: _Offer) -> Iterable[_Offer]:
    """Without the names that Docker has not told."""
    return [offer for offer in offers if offer[0]]


def _names_of_pool(row: _Row) -> Iterable[_Offer]:
    return [(row["pool"], f"{row['used']} of {row['size']} used")]


def _names_of_host(row: _Row) -> Iterable[_Offer]:
    return [(row["name"], row["vtep"]), (row["id"], row["name"]), (row["vtep"], row["name"])]


def _names_of_declared(row: _Row) -> Iterable[_Offer]:
    return [(row["name"], ", ".join(row["subnets"]))]


def _offered(path: str, names: Callable[[_Row], Iterable[_Offer]], incomplete: str) -> list["CompletionItem[str]"]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415  # at a TAB click has it already

    try:
        rows = client.ask(config.load({}, os.environ).admin_socket, path, limit_s=_LIMIT_S)
    except MdnpError:
        return []
    # A container on several networks is one name.
    offers = {name: about for row in rows for name, about in names(row) if name.startswith(incomplete)}
    return [CompletionItem(name, help=about.strip() or None) for name, about in offers.items()]
