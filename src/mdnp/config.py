"""
The settings: flags over environment (`MDNP_*`) over the configuration file over defaults.

The reader imports nothing heavy, since each call of the command line passes here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mdnp.model.errors import InvalidParameter

CONFIG_FILE = Path("/etc/mdnp/mdnp.toml")
LOG_LEVELS = ("debug", "info", "warning", "error")

_ENVIRONMENT = "MDNP_"


@dataclass(frozen=True)
class Settings:
    """The effective settings. The configuration file has the same names as keys."""

    socket: Path = Path("/run/docker/plugins/mdnp.sock")
    state_dir: Path = Path("/var/lib/mdnp")
    runtime_dir: Path = Path("/run/mdnp")
    log_level: str = "info"

    @property
    def admin_socket(self) -> Path:
        return self.runtime_dir / "admin.sock"


def load(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """
    The effective settings. `flags` that are None were not given; `file` must exist if it is named.

    Errors: InvalidParameter with every fault at once, each with its key and where it stands.
    """
    known = [one.name for one in fields(Settings)]
    path = file or Path(environment.get(f"{_ENVIRONMENT}CONFIG", CONFIG_FILE))
    must_exist = file is not None or f"{_ENVIRONMENT}CONFIG" in environment
    faults: list[str] = []
    values: dict[str, object] = {}
    for key, value in _from_file(path, must_exist).items():
        if key in known:
            values[key] = _checked(key, value, str(path), faults)
        else:
            faults.append(f"{path}: unknown key {key}: known are {', '.join(known)}")
    for key in known:
        name = _ENVIRONMENT + key.upper()
        if environment.get(name):
            values[key] = _checked(key, environment[name], name, faults)
        if flags.get(key) is not None:
            values[key] = _checked(key, flags[key], f"--{key.replace('_', '-')}", faults)
    if faults:
        raise InvalidParameter("; ".join(faults))
    return Settings(**values)  # type: ignore[arg-type]  # _checked gives each field its type


def shown(settings: Settings) -> dict[str, str]:
    return {one.name: str(getattr(settings, one.name)) for one in fields(Settings)}


def _from_file(path: Path, must_exist: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if must_exist:
            raise InvalidParameter(f"{path}: no such configuration file") from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidParameter(f"{path}: {error}") from error


def _checked(key: str, value: object, place: str, faults: list[str]) -> object:
    text = str(value) if isinstance(value, str | Path) else ""
    if key == "log_level":
        if text not in LOG_LEVELS:
            faults.append(f"{place}: {key} {value!r}: expected {', '.join(LOG_LEVELS)}")
        return text
    if not text.startswith("/") or "\0" in text:
        faults.append(f"{place}: {key} {value!r}: expected an absolute path")
    return Path(text)
