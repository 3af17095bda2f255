"""Settings: flags over environment over file over defaults."""

from pathlib import Path

import pytest

from mdnp.config import Settings, load, shown
from mdnp.model.errors import InvalidParameter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mdnp.toml"
    path.write_text('socket = "/file/mdnp.sock"\nstate_dir = "/file/state"\nlog_level = "error"\n')
    return path


def refusal(flags: dict[str, object], environment: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(InvalidParameter) as caught:
        load(flags, environment, file)
    return str(caught.value).split("; ")


def test_without_anything_the_defaults_are_in_force(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()

    assert load({}, {"MDNP_CONFIG": str(tmp_path / "empty.toml")}) == Settings()
    assert Settings().admin_socket == Path("/run/mdnp/admin.sock")


def test_each_source_gives_way_to_the_one_above(file: Path) -> None:
    environment = {"MDNP_CONFIG": str(file), "MDNP_STATE_DIR": "/environment/state", "MDNP_LOG_LEVEL": "debug"}

    settings = load({"log_level": "warning", "socket": None}, environment)

    assert settings == Settings(
        socket=Path("/file/mdnp.sock"), state_dir=Path("/environment/state"), log_level="warning"
    )


def test_a_file_that_is_named_by_a_flag_wins_over_the_environment_s(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('log_level = "debug"\n')

    assert load({}, {"MDNP_CONFIG": str(file)}, other) == Settings(log_level="debug")


def test_an_empty_variable_is_one_that_is_not_set(file: Path) -> None:
    assert load({}, {"MDNP_SOCKET": ""}, file).socket == Path("/file/mdnp.sock")
    assert load({}, {"MDNP_CONFIG": ""}) == load({}, {})


def test_every_fault_is_told_at_once_with_its_place(file: Path) -> None:
    file.write_text('sokket = "/x"\nstate-dir = "/y"\nruntime_dir = 7\nlog_level = "loud"\n')
    known = "known are socket, state_dir, runtime_dir, docker_host, address_pools, grace, log_level"

    faults = refusal({"state_dir": "relative"}, {"MDNP_SOCKET": "here"}, file)

    assert faults == [
        f"{file}: unknown key sokket: {known}",
        f"{file}: unknown key state-dir: {known}",
        f"{file}: runtime_dir '7': expected an absolute path",
        f"{file}: log_level 'loud': expected debug, info, warning, error",
        "MDNP_SOCKET: socket 'here': expected an absolute path",
        "--state-dir: state_dir 'relative': expected an absolute path",
    ]


@pytest.mark.parametrize("value", ["7", "true", '["/a"]', '{a = "/b"}', '"relative"', '"nul\\u0000"', '""'])
def test_a_path_that_is_none_is_refused(file: Path, value: str) -> None:
    file.write_text(f"socket = {value}\n")

    [fault] = refusal({}, {}, file)

    assert fault.startswith(f"{file}: socket ")
    assert fault.endswith(": expected an absolute path")


def test_a_variable_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """As an unknown key of the file: a typing error must not be a setting that is silently not there."""
    (tmp_path / "empty.toml").touch()

    [fault] = refusal({}, {"MDNP_SOKET": "/x", "MDNP_CONFIG": str(tmp_path / "empty.toml")})

    assert fault.startswith("MDNP_SOKET: unknown key soket: known are socket, ")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"

    assert refusal({}, {}, missing) == [f"{missing}: no such configuration file"]
    assert refusal({}, {"MDNP_CONFIG": str(missing)}) == [f"{missing}: no such configuration file"]


@pytest.mark.parametrize("content", [b"socket = \n", b"\xff\xfe", b"[socket"])
def test_a_file_that_cannot_be_read_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    [fault, *_] = refusal({}, {}, file)

    assert fault.startswith(f"{file}: ")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    [fault] = refusal({}, {}, tmp_path)

    assert fault.startswith(f"{tmp_path}: ")


def test_the_settings_are_shown_as_text() -> None:
    values = shown(Settings(log_level="debug"))

    assert (values["socket"], values["log_level"]) == ("/run/docker/plugins/mdnp.sock", "debug")
    assert set(values) == {
        "socket",
        "state_dir",
        "runtime_dir",
        "docker_host",
        "address_pools",
        "grace",
        "log_level",
    }
