"""`mdnp install --root` and `mdnp uninstall --root`: files only."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mdnp.install.place import RECORD

pytestmark = pytest.mark.long

MDNP = Path(sys.executable).parent / "mdnp"
UNIT = "etc/systemd/system/mdnp.service"
CONFIGURATION = "etc/mdnp/mdnp.toml"
ALL = ["etc/mdnp/mdnp.toml", "etc/systemd/system/docker.service.d/mdnp.conf", UNIT, "etc/systemd/system/mdnp.socket"]


def mdnp(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run([MDNP, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_it_writes_four_files_and_what_it_wrote(tmp_path: Path) -> None:
    said = mdnp("install", "--root", tmp_path)
    assert files(tmp_path) == sorted([*ALL, RECORD.lstrip("/")])
    assert all(f"wrote /{name}" in said for name in ALL)
    assert f"ExecStart={MDNP} serve" in (tmp_path / UNIT).read_text().splitlines()
    assert stat.S_IMODE((tmp_path / "var/lib/mdnp").stat().st_mode) == 0o700


def test_a_second_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    mdnp("install", "--root", tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in ALL}
    said = mdnp("install", "--root", tmp_path)
    assert said.count("unchanged") == len(ALL)
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in ALL}


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    assert "would write" in mdnp("install", "--root", tmp_path, "--plan")
    assert files(tmp_path) == []
    mdnp("install", "--root", tmp_path)
    assert "would remove" in mdnp("uninstall", "--root", tmp_path, "--plan")
    assert len(files(tmp_path)) == len(ALL) + 1


def test_another_program_replaces_what_we_wrote(tmp_path: Path) -> None:
    mdnp("install", "--root", tmp_path)
    assert f"replaced /{UNIT}" in mdnp("install", "--root", tmp_path, "--program", "/usr/bin/mdnp")
    assert "ExecStart=/usr/bin/mdnp serve" in (tmp_path / UNIT).read_text()


def test_a_configuration_that_was_changed_is_kept_by_both(tmp_path: Path) -> None:
    mdnp("install", "--root", tmp_path)
    (tmp_path / CONFIGURATION).write_text("grace = 60\n")
    assert f"kept /{CONFIGURATION}" in mdnp("install", "--root", tmp_path)
    assert f"kept /{CONFIGURATION}" in mdnp("uninstall", "--root", tmp_path)
    assert files(tmp_path) == [CONFIGURATION]
    assert (tmp_path / CONFIGURATION).read_text() == "grace = 60\n"


def test_a_unit_of_somebody_else_is_named_and_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / UNIT).parent.mkdir(parents=True)
    (tmp_path / UNIT).write_text("[Service]\nExecStart=/bin/true\n")
    said = mdnp("install", "--root", tmp_path, code=1)
    assert f"/{UNIT}" in said
    assert "nothing was done" in said
    assert files(tmp_path) == [UNIT]


def test_a_masked_unit_stays_masked(tmp_path: Path) -> None:
    (tmp_path / UNIT).parent.mkdir(parents=True)
    (tmp_path / UNIT).symlink_to("/dev/null")
    mdnp("install", "--root", tmp_path, code=1)
    assert (tmp_path / UNIT).is_symlink()


def test_uninstall_leaves_nothing_but_what_others_have_there(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system/docker.service.d").mkdir(parents=True)
    other = tmp_path / "etc/systemd/system/docker.service.d/proxy.conf"
    other.write_text("[Service]\n")
    mdnp("install", "--root", tmp_path)
    assert mdnp("uninstall", "--root", tmp_path).count("removed") == len(ALL)
    assert files(tmp_path) == [str(other.relative_to(tmp_path))]
    assert not (tmp_path / "var/lib/mdnp").exists()
    assert not (tmp_path / "etc/mdnp").exists()


def test_uninstall_where_nothing_was_installed_says_so(tmp_path: Path) -> None:
    assert "has put in no files" in mdnp("uninstall", "--root", tmp_path)


@pytest.mark.parametrize("content", ["{", '{"files": 1}', '{"files": {"/etc/passwd": 7}}'])
def test_a_damaged_record_is_told_and_nothing_is_removed(tmp_path: Path, content: str) -> None:
    mdnp("install", "--root", tmp_path)
    (tmp_path / RECORD.lstrip("/")).write_text(content)
    assert RECORD in mdnp("uninstall", "--root", tmp_path, code=1)
    assert len(files(tmp_path)) == len(ALL) + 1


def test_what_failed_half_way_is_finished_by_the_next_run(tmp_path: Path) -> None:
    mdnp("install", "--root", tmp_path)
    in_the_way = tmp_path / "etc/systemd/system/docker.service.d"
    shutil.rmtree(in_the_way)
    in_the_way.touch()
    assert f"cannot write {in_the_way}" in mdnp("install", "--root", tmp_path, "--program", "/usr/bin/mdnp", code=1)
    in_the_way.unlink()
    assert f"replaced /{UNIT}" in mdnp("install", "--root", tmp_path, "--program", "/opt/mdnp")
    assert files(tmp_path) == sorted([*ALL, RECORD.lstrip("/")])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["install", "--package"], "--root"),
        (["install", "--program", "mdnp", "--plan"], "absolute"),
        (["uninstall", "--purge", "--root", "/tmp"], "--purge"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], word: str) -> None:
    assert word in mdnp(*arguments, code=2)
