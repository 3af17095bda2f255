"""`mdnp install --host-dns`: how the host's resolver is led to mdnp, and away again."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mdnp import config
from mdnp.cli.main import cli
from mdnp.install.resolver import DROP_IN, to_install, with_line, without_line
from mdnp.model.errors import Conflict, InvalidParameter

ADDRESS = "127.0.0.153"
PLAIN = "search example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"
LED = "nameserver 127.0.0.153\nnameserver 192.0.2.53\n"


def mdnp(command: str, root: Path, *arguments: str) -> str:
    whole = [command, f"--root={root}", *(["--program=/bin/true"] if command == "install" else []), *arguments]
    result = CliRunner().invoke(cli, whole, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def resolv_conf(root: Path, text: str = PLAIN) -> Path:
    file = root / "etc/resolv.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def leading_to(root: Path, target: str) -> None:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").symlink_to(target)


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_plain_file_gets_a_line_before_the_servers_and_is_as_before_afterwards(tmp_path: Path) -> None:
    file = resolv_conf(tmp_path)
    file.chmod(0o640)

    assert "changed /etc/resolv.conf" in mdnp("install", tmp_path, "--host-dns")

    assert LED in file.read_text()
    assert file.read_text().startswith("search example\n#")
    assert file.stat().st_mode & 0o777 == 0o640
    settings = config.load({}, {}, tmp_path / "etc/mdnp/mdnp.toml")
    assert str(settings.host_dns) == ADDRESS
    assert "unchanged /etc/resolv.conf" in mdnp("install", tmp_path, "--host-dns")

    assert "changed /etc/resolv.conf" in mdnp("uninstall", tmp_path)
    assert file.read_text() == PLAIN


def test_what_others_changed_around_the_line_stays(tmp_path: Path) -> None:
    file = resolv_conf(tmp_path)
    mdnp("install", tmp_path, "--host-dns")
    file.write_text(file.read_text().replace("192.0.2.54", "192.0.2.99") + "options edns0\n")

    mdnp("uninstall", tmp_path)

    assert file.read_text() == PLAIN.replace("192.0.2.54", "192.0.2.99") + "options edns0\n"


def test_another_address_takes_the_place_of_the_first(tmp_path: Path) -> None:
    file = resolv_conf(tmp_path)
    mdnp("install", tmp_path, "--host-dns")
    mdnp("install", tmp_path, "--host-dns=127.0.0.200")

    assert [line for line in file.read_text().splitlines() if "nameserver 127" in line] == ["nameserver 127.0.0.200"]
    assert str(config.load({}, {}, tmp_path / "etc/mdnp/mdnp.toml").host_dns) == "127.0.0.200"


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"])
def test_systemd_resolved_gets_a_drop_in_that_goes_again(tmp_path: Path, target: str) -> None:
    leading_to(tmp_path, target)

    mdnp("install", tmp_path, "--host-dns")
    assert (tmp_path / DROP_IN[1:]).read_text().splitlines()[1:] == [
        "[Resolve]",
        f"DNS={ADDRESS}",
        "Domains=~mdnp",
    ]
    assert "wrote" not in mdnp("install", tmp_path, "--host-dns")

    mdnp("uninstall", tmp_path)
    assert not (tmp_path / DROP_IN[1:]).parent.exists()
    assert (tmp_path / "etc/resolv.conf").is_symlink()


def test_a_file_that_names_systemd_resolved_is_left_to_it(tmp_path: Path) -> None:
    file = resolv_conf(tmp_path, "nameserver 127.0.0.53\noptions edns0\n")

    mdnp("install", tmp_path, "--host-dns")

    assert (tmp_path / DROP_IN[1:]).exists()
    assert file.read_text() == "nameserver 127.0.0.53\noptions edns0\n"


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    file = resolv_conf(tmp_path)

    assert "would change /etc/resolv.conf" in mdnp("install", tmp_path, "--host-dns", "--plan")

    assert file.read_text() == PLAIN
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == ["resolv.conf"]


@pytest.mark.parametrize("how", ["line", "drop-in"])
def test_it_is_not_taken_out_without_a_word(tmp_path: Path, how: str) -> None:
    resolv_conf(tmp_path, PLAIN if how == "line" else "nameserver 127.0.0.53\n")
    mdnp("install", tmp_path, "--host-dns")

    with pytest.raises(Conflict, match="installed with --host-dns: say it again"):
        mdnp("install", tmp_path)


def test_without_it_nothing_of_the_resolver_is_looked_into(tmp_path: Path) -> None:
    leading_to(tmp_path, "/run/NetworkManager/resolv.conf")

    assert "resolv" not in mdnp("install", tmp_path)


@pytest.mark.parametrize(
    "target", ["/run/NetworkManager/resolv.conf", "../run/resolvconf/resolv.conf", "/run/systemd/resolve/resolv.conf"]
)
def test_a_link_to_what_others_write_is_theirs(tmp_path: Path, target: str) -> None:
    leading_to(tmp_path, target)

    with pytest.raises(Conflict, match=f"^/etc/resolv.conf leads to {target}, ") as caught:
        mdnp("install", tmp_path, "--host-dns")

    assert ("ln -sf" if "systemd" in target else f"nameserver {ADDRESS}") in str(caught.value)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


@pytest.mark.parametrize(
    "comment",
    [
        "# Generated by NetworkManager",
        "### /etc/resolv.conf is a symlink to /run/netconfig/resolv.conf, autogenerated by netconfig!",
        "; Created by cloud-init on instance boot automatically, do not edit.",
        "# This file is managed by man:somebody(8). Do not edit.",
    ],
)
def test_a_file_that_says_who_writes_it_is_theirs(tmp_path: Path, comment: str) -> None:
    file = resolv_conf(tmp_path, f"{comment}\n{PLAIN}")

    with pytest.raises(Conflict, match="is another program's, as it says"):
        mdnp("install", tmp_path, "--host-dns")

    assert file.read_text() == f"{comment}\n{PLAIN}"


@pytest.mark.parametrize("text", ["", "search example\n"])
def test_a_host_without_a_resolver_is_told_to_have_one_first(tmp_path: Path, text: str) -> None:
    resolv_conf(tmp_path, text)

    with pytest.raises(Conflict, match="names no server"):
        mdnp("install", tmp_path, "--host-dns")


@pytest.mark.parametrize(
    "name",
    ["etc/systemd/resolved.conf", "etc/systemd/resolved.conf.d/a.conf", "usr/lib/systemd/resolved.conf.d/b.conf"],
)
def test_other_servers_of_systemd_resolved_s_own_are_refused(tmp_path: Path, name: str) -> None:
    resolv_conf(tmp_path, "nameserver 127.0.0.53\n")
    put(tmp_path, name, "[Resolve]\n#DNS=192.0.2.1\nDNS=\nDNS = 192.0.2.2 192.0.2.3\n")

    with pytest.raises(Conflict, match=rf"^/{name} has DNS=192\.0\.2\.2 192\.0\.2\.3: "):
        mdnp("install", tmp_path, "--host-dns")

    put(tmp_path, name, "[Resolve]\n#DNS=192.0.2.1\nDNS=\nDNSSEC=no\n")
    mdnp("install", tmp_path, "--host-dns")


def test_systemd_resolved_without_servers_of_links_is_refused(tmp_path: Path) -> None:
    resolv_conf(tmp_path, "nameserver 127.0.0.53\n")
    put(tmp_path, "run/systemd/resolve/resolv.conf", f"# No servers\nnameserver {ADDRESS}\n")

    with pytest.raises(Conflict, match="has no servers of links"):
        mdnp("install", tmp_path, "--host-dns")

    put(tmp_path, "run/systemd/resolve/resolv.conf", f"nameserver {ADDRESS}\nnameserver 192.0.2.53\n")
    mdnp("install", tmp_path, "--host-dns")


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.53", "x"])
def test_an_address_that_is_not_for_it_is_refused_before_anything_is_written(tmp_path: Path, address: str) -> None:
    resolv_conf(tmp_path)

    with pytest.raises(InvalidParameter, match=f"host_dns '{address}'"):
        mdnp("install", tmp_path, f"--host-dns={address}")

    assert not (tmp_path / "etc/mdnp").exists()


def test_it_is_not_for_a_package(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="does not go with --package"):
        mdnp("install", tmp_path, "--host-dns", "--package")


def test_a_configuration_that_is_kept_is_told_what_it_lacks(tmp_path: Path) -> None:
    resolv_conf(tmp_path)
    put(tmp_path, "etc/mdnp/mdnp.toml", "grace = 60\n")

    assert f'\nhost_dns = "{ADDRESS}"\n' in mdnp("install", tmp_path, "--host-dns")


lines = st.sampled_from(["nameserver 192.0.2.1", "nameserver ::1", "search a b", "# words", "", "options edns0", "\tx"])


@given(st.lists(lines).map("\n".join), st.sampled_from(["", "\n"]))
def test_the_line_is_the_first_server_and_what_is_put_in_comes_out(text: str, end: str) -> None:
    led = with_line(text + end, ADDRESS)

    assert next(line for line in led.splitlines() if line.startswith("nameserver")) == f"nameserver {ADDRESS}"
    assert with_line(led, ADDRESS) == led
    assert without_line(led).rstrip("\n") == (text + end).rstrip("\n")
    assert without_line(text + end) == text + end


def test_a_host_without_the_file_is_not_one_that_is_led_to_us(tmp_path: Path) -> None:
    assert to_install(tmp_path, None, ()).resolv_conf is None
