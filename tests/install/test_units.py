"""The files are what systemd takes, what it calls safe, and what our own reader reads."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from mdnp import config
from mdnp.config import Settings
from mdnp.install import units
from mdnp.install.plan import File
from rig.command import run

WELL = 3.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As below /etc/systemd/system, for a program that is there."""
    return _written(tmp_path, units.files("/bin/true", ""))


def test_systemd_has_no_word_to_say_against_them(folder: Path) -> None:
    said = run(["systemd-analyze", "verify", *map(str, folder.glob("mdnp.*"))], check=False)
    assert (said.code, said.said) == (0, "")


def test_systemd_says_that_little_is_exposed(folder: Path) -> None:
    said = run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / "mdnp.service")]).out
    exposure = re.search(r"Overall exposure level for mdnp.service: ([0-9.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= WELL, said


def test_nothing_ties_the_socket_to_docker_but_that_it_comes_first(folder: Path) -> None:
    said = (folder / "mdnp.socket").read_text().splitlines()
    assert [line for line in said if "docker.service" in line] == ["Before=docker.service"]
    assert "WantedBy=sockets.target" in said


def test_a_program_in_a_home_is_not_hidden_from_itself() -> None:
    assert "ProtectHome=read-only" in _service("/home/ann/.local/share/pipx/venvs/mdnp/bin/mdnp")
    assert "ProtectHome=yes" in _service("/opt/mdnp/bin/mdnp")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/a b/mdnp", 'ExecStart="/opt/a b/mdnp" serve'),
        ("/opt/%n/$x", "ExecStart=/opt/%%n/$$x serve"),
    ],
)
def test_an_odd_path_stays_one_word(path: str, word: str) -> None:
    assert word in _service(path).splitlines()


def test_the_configuration_says_each_setting_with_its_default_and_what_it_is(tmp_path: Path) -> None:
    text = units.configuration()
    assert tomllib.loads(text) == {}
    file = tmp_path / "mdnp.toml"
    file.write_text(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert config.load({}, {}, file) == Settings()
    for one in fields(Settings):
        assert re.search(rf"^# .+\n#{one.name} = ", text, re.MULTILINE), f"{one.name}: units.py has no comment for it"


def _service(program: str) -> str:
    return next(one.text for one in units.files(program) if one.path.endswith("mdnp.service"))


def _written(folder: Path, files: Iterable[File]) -> Path:
    for one in files:
        path = folder / one.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.text)
    return folder
