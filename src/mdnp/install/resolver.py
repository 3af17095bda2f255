"""
Leads the host's own resolver to mdnp for NAME.NETWORK.mdnp, and away again.

With systemd-resolved it is a drop-in: `Domains=~mdnp` sends these names to us alone, and all others go to the servers
of the links, beside us, who refuse them (resolved.conf(5), systemd-resolved.service(8)). Without it, it is a line in
/etc/resolv.conf before the others, if nobody else writes that file: programs ask us first, and we ask the others for
what is not ours; if we do not run, the port is closed, and they go on to the next at once (resolv.conf(5)).
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdnp.install.file import below
from mdnp.install.plan import File
from mdnp.model.errors import Conflict

DROP_IN = "/etc/systemd/resolved.conf.d/mdnp.conf"
RESOLV_CONF = "/etc/resolv.conf"
RESOLVED = "systemd-resolved.service"

_MARK = "# The next line is of `mdnp install --host-dns`; `mdnp uninstall` takes both out."
_OURS = re.compile(rf"^{re.escape(_MARK)}\n(?:nameserver [^\n]*(?:\n|\Z))?", re.MULTILINE)
_DROP_IN = """\
# Of `mdnp install --host-dns`: names of containers, NAME.NETWORK.mdnp, are asked for there, and no others.
[Resolve]
DNS={address}
Domains=~mdnp
"""
_STUB = "127.0.0.53"
_STUB_FILES = ("systemd/resolve/stub-resolv.conf", "lib/systemd/resolv.conf")
_UPLINK_FILE = "systemd/resolve/resolv.conf"
_SEEN = "run/systemd/resolve/resolv.conf"  # all servers that it knows
_CONFIGURATIONS = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_WRITTEN_BY_OTHERS = re.compile(r"^[#;].*(generated|managed|written|created)", re.IGNORECASE | re.MULTILINE)
_DNS = re.compile(r"^[ \t]*DNS[ \t]*=[ \t]*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """What is put in: `files` of ours, and what /etc/resolv.conf is to say, None where it is left alone."""

    files: tuple[File, ...] = ()
    resolv_conf: str | None = None


def to_install(root: Path, address: str | None, recorded: Collection[str]) -> Change:
    """
    `address` is ours, None if the host's resolver is not to be led to us. Nothing is written.

    Errors: Conflict when it was led to us and would not be any more, or when that is not ours to do, with what to do
    instead.
    """
    text = _text(below(root, Path(RESOLV_CONF)))
    if address is None:
        if DROP_IN in recorded or _OURS.search(text):
            raise Conflict(
                "mdnp is installed with --host-dns: say it again; or `mdnp uninstall` first, for this host to know no"
                " names of mdnp"
            )
        return Change()
    if _asks_resolved(root, text):
        _refuse_other_servers(root)
        _refuse_without_links(root, address)
        return Change((File(DROP_IN, _DROP_IN.format(address=address)),))
    _refuse_what_others_write(root, address, text)
    return Change(resolv_conf=with_line(text, address))


def to_uninstall(root: Path) -> Change:
    """The record names the files; of /etc/resolv.conf what is ours is known by itself."""
    text = _text(below(root, Path(RESOLV_CONF)))
    return Change(resolv_conf=without_line(text)) if _OURS.search(text) else Change()


def with_line(text: str, address: str) -> str:
    """Before the first of the servers, of which programs ask three at most."""
    text = without_line(text)
    lines = text.splitlines(keepends=True)
    place = next((number for number, line in enumerate(lines) if line.split()[:1] == ["nameserver"]), len(lines))
    before = "".join(lines[:place])
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}{_MARK}\nnameserver {address}\n{''.join(lines[place:])}"


def without_line(text: str) -> str:
    return _OURS.sub("", text)


def _asks_resolved(root: Path, text: str) -> bool:
    """Whether programs ask systemd-resolved. Errors: Conflict where it is there and they ask past it."""
    target = _target(root)
    if target.endswith(_STUB_FILES):
        return True
    if target.endswith(_UPLINK_FILE):
        raise Conflict(
            f"{RESOLV_CONF} leads to {target}, and programs ask past systemd-resolved: `ln -sf"
            f" ../run/systemd/resolve/stub-resolv.conf {RESOLV_CONF}`, and run this again"
        )
    return _STUB in _servers(text)


def _refuse_other_servers(root: Path) -> None:
    """Of its own servers, those of DNS=, systemd-resolved asks one or another, whatever the name."""
    for file in _configurations(root):
        if found := _DNS.search(_text(file)):
            raise Conflict(
                f"/{file.relative_to(root)} has DNS={found[1]}: systemd-resolved would ask that one in place of mdnp as"
                " well as the other way round. Give that server to the link (systemd-networkd, NetworkManager), take it"
                " out there, and run this again"
            )


def _refuse_without_links(root: Path, address: str) -> None:
    """It asks its fallback servers only where DNS= is empty."""
    seen = root / _SEEN
    if seen.exists() and not set(_servers(_text(seen))) - {address}:
        raise Conflict(
            "systemd-resolved has no servers of links: with mdnp's it would ask nobody else, not even its fallback"
            " servers. Give the link one (systemd-networkd, NetworkManager, `resolvectl dns LINK ADDRESS`), and run"
            " this again"
        )


def _configurations(root: Path) -> Iterator[Path]:
    ours = below(root, Path(DROP_IN))
    yield root / "etc/systemd/resolved.conf"
    for folder in _CONFIGURATIONS:
        yield from (one for one in sorted((root / folder).glob("systemd/resolved.conf.d/*.conf")) if one != ours)


def _refuse_what_others_write(root: Path, address: str, text: str) -> None:
    by_hand = (
        f'have that one put `nameserver {address}` before the other servers, and `host_dns = "{address}"` into'
        " /etc/mdnp/mdnp.toml"
    )
    if target := _target(root):
        raise Conflict(f"{RESOLV_CONF} leads to {target}, which another program writes: {by_hand}")
    if found := _WRITTEN_BY_OTHERS.search(without_line(text)):
        raise Conflict(f"{RESOLV_CONF} is another program's, as it says ({found[0].strip()[:80]}): {by_hand}")
    if not _servers(without_line(text)):
        raise Conflict(f"{RESOLV_CONF} names no server, and mdnp knows none but its own names: name one there first")


def _servers(text: str) -> Sequence[str]:
    rows = (line.split() for line in text.splitlines())
    return [words[1] for words in rows if len(words) > 1 and words[0] == "nameserver"]


def _target(root: Path) -> str:
    """Where the file leads, "" if it is no link."""
    path = below(root, Path(RESOLV_CONF))
    return str(path.readlink()) if path.is_symlink() else ""


def _text(path: Path) -> str:
    """ "" for what is not there: then it says nothing."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
