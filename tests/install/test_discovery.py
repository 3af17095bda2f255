"""The files by which an engine finds mdnp, and the settings that belong to them."""

import json
from pathlib import Path

import pytest

from mdnp import config
from mdnp.install.certificates import Pair
from mdnp.install.discovery import Given, found, places, prepare_spec, prepare_tcp
from mdnp.install.file import File, below, remove, write
from mdnp.model.errors import Conflict, InvalidParameter, MdnpError
from mdnp.model.tcp_address import TcpAddress

ADDRESS = TcpAddress("127.0.0.1", 4460)
JSON = Path("/etc/docker/plugins/mdnp.json")


def put(root: Path, path: str, content: str = "x") -> None:
    target = below(root, Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def test_what_docker_reads_and_what_mdnp_reads_belong_together(tmp_path: Path) -> None:
    prepared = prepare_tcp(tmp_path, ADDRESS)

    assert json.loads(prepared.files[-1].content) == {
        "Name": "mdnp",
        "Addr": "https://127.0.0.1:4460",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": "/etc/mdnp/tls/ca.pem",
            "CertFile": "/etc/mdnp/tls/client.pem",
            "KeyFile": "/etc/mdnp/tls/client-key.pem",
        },
    }
    assert prepared.settings == {
        "socket": "/run/mdnp-socket/mdnp.sock",
        "listen": "tcp://127.0.0.1:4460",
        "tls_cert": "/etc/mdnp/tls/server.pem",
        "tls_key": "/etc/mdnp/tls/server-key.pem",
        "tls_ca": "/etc/mdnp/tls/ca.pem",
    }
    assert config.shown(config.load(prepared.settings, {})).items() >= prepared.settings.items()


def test_an_address_of_ipv6_stands_in_brackets(tmp_path: Path) -> None:
    prepared = prepare_tcp(tmp_path, TcpAddress("::1", 4460))

    assert json.loads(prepared.files[-1].content)["Addr"] == "https://[::1]:4460"


def test_certificates_of_the_operator_s_own_are_used_and_none_are_made(tmp_path: Path) -> None:
    own = [f"/pki/{name}" for name in ("server", "server-key", "client", "client-key", "ca")]
    for path in own:
        put(tmp_path, path)
    server, server_key, client, client_key, ca = map(Path, own)

    prepared = prepare_tcp(tmp_path, ADDRESS, Given(Pair(server, server_key), Pair(client, client_key), ca))

    assert [one.path for one in prepared.files] == [JSON]
    assert json.loads(prepared.files[0].content)["TLSConfig"] == {
        "InsecureSkipVerify": False,
        "CAFile": "/pki/ca",
        "CertFile": "/pki/client",
        "KeyFile": "/pki/client-key",
    }
    assert (prepared.settings["tls_cert"], prepared.settings["tls_ca"]) == ("/pki/server", "/pki/ca")


def test_a_certificate_of_the_operator_s_that_is_not_there_is_named(tmp_path: Path) -> None:
    pair = Pair(Path("/pki/cert"), Path("/pki/key"))

    with pytest.raises(InvalidParameter, match=r"^/pki/cert: No such file or directory$"):
        prepare_tcp(tmp_path, ADDRESS, Given(pair, pair, Path("/pki/ca")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104  # it is refused
def test_an_address_that_nobody_can_call_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidParameter, match="Docker must call an address of this host"):
        prepare_tcp(tmp_path, TcpAddress(host, 4460))


@pytest.mark.parametrize("path", ["/etc/docker/plugins/mdnp.spec", "/etc/docker/plugins/mdnp/mdnp.spec"])
def test_a_file_that_docker_would_read_before_ours_is_told(tmp_path: Path, path: str) -> None:
    put(tmp_path, path)

    with pytest.raises(Conflict) as caught:
        prepare_tcp(tmp_path, ADDRESS)

    assert str(caught.value) == f"{path} is there: Docker would read it and not {JSON}: remove it first"


def test_a_file_that_docker_would_read_after_ours_is_no_hindrance(tmp_path: Path) -> None:
    for path in ("/run/docker/plugins/mdnp.sock", "/usr/lib/docker/plugins/mdnp.json"):
        put(tmp_path, path)

    assert prepare_tcp(tmp_path, ADDRESS).files[-1].path == JSON


def test_the_first_of_docker_s_places_is_found(tmp_path: Path) -> None:
    assert (len(places()), found(tmp_path)) == (10, None)

    for path in reversed(places()):
        put(tmp_path, str(path))
        assert found(tmp_path) == path


def test_a_spec_names_a_socket(tmp_path: Path) -> None:
    prepared = prepare_spec(tmp_path, "unix:///run/mdnp/mdnp.sock")

    [spec] = prepared.files
    assert (spec.path, spec.content) == (Path("/etc/docker/plugins/mdnp.spec"), b"unix:///run/mdnp/mdnp.sock\n")
    assert prepared.settings == {"socket": "/run/mdnp/mdnp.sock"}


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:4460", "https://127.0.0.1:4460", "/run/mdnp.sock", "unix://x"])
def test_a_spec_that_would_be_plain_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidParameter, match="since TCP needs the TLSConfig"):
        prepare_spec(tmp_path, url)


# Writing and removing.

ONE, TWO = File(Path("/etc/one"), 0o644, b"one"), File(Path("/etc/deep/two"), 0o600, b"two")


def test_files_are_written_once_and_removed(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path, [ONE, TWO])
    assert below(tmp_path, TWO.path).read_bytes() == b"two"

    for _ in range(2):
        assert remove(tmp_path, [ONE, TWO]) == []
    assert not below(tmp_path, ONE.path).exists()


def test_what_says_otherwise_is_not_written_over_and_nothing_else_is_written(tmp_path: Path) -> None:
    put(tmp_path, "/etc/deep/two", "precious")

    with pytest.raises(Conflict, match="is there and says otherwise"):
        write(tmp_path, [ONE, TWO])

    assert below(tmp_path, TWO.path).read_text() == "precious"
    assert not below(tmp_path, ONE.path).exists()


def test_what_was_changed_is_not_removed(tmp_path: Path) -> None:
    write(tmp_path, [ONE, TWO])
    put(tmp_path, "/etc/one", "mine")

    assert remove(tmp_path, [ONE, TWO]) == [below(tmp_path, ONE.path)]
    assert below(tmp_path, ONE.path).read_text() == "mine"


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    put(tmp_path, "/etc/deep")

    with pytest.raises(MdnpError, match="/etc/deep/two: "):
        write(tmp_path, [TWO])
