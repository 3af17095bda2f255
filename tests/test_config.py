"""Settings: flags over environment over file over defaults."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from mdnp.config import Settings, load, shown
from mdnp.model.errors import InvalidParameter
from mdnp.model.etcd_url import EtcdURL
from mdnp.model.tcp_address import TcpAddress


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
    known = (
        "known are socket, state_dir, runtime_dir, docker_host, address_pools, grace, metrics, log_level, log_format,"
        " listen, tls_cert, tls_key, tls_ca, etcd, etcd_ca, etcd_cert, etcd_key, etcd_user, etcd_password_file,"
        " host_address, vxlan_port, lease, host_dns"
    )

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
        "metrics",
        "log_level",
        "log_format",
        "listen",
        "tls_cert",
        "tls_key",
        "tls_ca",
        "etcd",
        "etcd_ca",
        "etcd_cert",
        "etcd_key",
        "etcd_user",
        "etcd_password_file",
        "host_address",
        "vxlan_port",
        "lease",
        "host_dns",
    }
    assert (values["listen"], values["tls_cert"]) == ("off", "off")
    assert (values["etcd"], values["etcd_user"], values["lease"]) == ("off", "off", "15")


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("127.0.0.1:9677", "127.0.0.1:9677"),
        ("127.8.9.1:1", "127.8.9.1:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("off", "off"),
    ],
)
def test_metrics_are_served_at_a_loopback_address_or_not_at_all(text: str, shown_as: str) -> None:
    settings = load({"metrics": text}, {"MDNP_CONFIG": "/dev/null"})

    assert shown(settings)["metrics"] == shown_as
    assert load({"metrics": shown(settings)["metrics"]}, {"MDNP_CONFIG": "/dev/null"}) == settings


@pytest.mark.parametrize("text", ["0.0.0.0:9677", "192.0.2.1:9677", "[::]:9677", "[2001:db8::1]:9677"])
def test_metrics_at_an_address_that_others_reach_are_refused_with_the_reason(text: str) -> None:
    [fault] = refusal({"metrics": text}, {})

    assert fault.startswith(
        f"--metrics: metrics '{text}': not a loopback address, and nobody is asked there who he is:"
    )


@pytest.mark.parametrize(
    "text",
    ["", "9677", ":9677", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "::1:9677"],
)
def test_metrics_that_are_no_address_and_port_are_refused(text: str) -> None:
    [fault] = refusal({"metrics": text}, {})

    assert fault.startswith(f"--metrics: metrics '{text}': expected off, or an address and a port as 127.0.0.1:9677")


@pytest.mark.parametrize("text", ["127.0.0.153", "127.0.0.1", "127.255.255.254", "::1", "off"])
def test_the_host_s_own_resolver_may_ask_at_an_address_of_loopback(text: str) -> None:
    assert shown(load({"host_dns": text}, {"MDNP_CONFIG": "/dev/null"}))["host_dns"] == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("192.0.2.1", "not an address of loopback, and nobody is asked there who he is"),
        ("192.0.2.0", "not an address of loopback"),
        ("::", "not an address of loopback"),
        ("", "expected off, or an address of loopback as 127.0.0.153"),
        ("localhost", "expected off, or an address of loopback"),
        ("127.0.0.153:53", "expected off, or an address of loopback"),
        ("127.0.0.11", "is that of Docker's embedded DNS: take another"),
        ("127.0.0.53", "is that of systemd-resolved: take another"),
    ],
)
def test_any_other_address_for_it_is_refused_with_the_reason(text: str, says: str) -> None:
    [fault] = refusal({"host_dns": text}, {})

    assert fault.startswith(f"--host-dns: host_dns '{text}': {says}")


def test_a_format_of_the_log_that_is_none_is_refused() -> None:
    assert load({"log_format": "json"}, {"MDNP_CONFIG": "/dev/null"}).log_format == "json"
    assert refusal({"log_format": "xml"}, {}) == ["--log-format: log_format 'xml': expected text, json"]


TLS = {"tls_cert": "/tls/server.pem", "tls_key": "/tls/server-key.pem", "tls_ca": "/tls/ca.pem"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:4460", TcpAddress("127.0.0.1", 4460)),
        ("tcp://[::1]:1", TcpAddress("::1", 1)),
        ("tcp://host-1.lan:65535", TcpAddress("host-1.lan", 65535)),
    ],
)
def test_an_address_on_tcp_is_taken_with_all_of_tls(text: str, address: TcpAddress) -> None:
    settings = load({"listen": text, **TLS}, {})

    assert (settings.listen, settings.tls_key) == (address, Path("/tls/server-key.pem"))
    assert shown(settings)["listen"] == text


def test_what_is_shown_can_be_given_again(file: Path) -> None:
    lines = [f'{key} = "{value}"' for key, value in shown(Settings()).items() if key not in ("address_pools", "grace")]
    file.write_text("\n".join(lines))

    assert load({}, {}, file) == Settings()


@pytest.mark.parametrize("missing", [["tls_cert"], ["tls_key"], ["tls_ca"], ["tls_key", "tls_ca"], list(TLS)])
def test_plain_tcp_is_refused_and_what_is_missing_is_named(missing: list[str]) -> None:
    given = {f"MDNP_{name.upper()}": path for name, path in TLS.items() if name not in missing}

    [fault] = refusal({"listen": "tcp://127.0.0.1:4460"}, given)

    assert fault == (
        "listen tcp://127.0.0.1:4460: plain TCP is refused, since whoever reaches it could change the host's networks:"
        f" give {', '.join(missing)} too"
    )


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:4460",
        "https://127.0.0.1:4460",
        "tcp://127.0.0.1",
        "tcp://:4460",
        "tcp://::1:4460",
        "tcp://a:0",
        "tcp://a:65536",
        "tcp://a:-1",
        "tcp://a:1/",
        "tcp://a b:1",
        "tcp://[::1]",
        "unix:///run/x",
    ],
)
def test_what_is_no_address_on_tcp_is_refused(text: str) -> None:
    [fault] = refusal({"listen": text, **TLS}, {})

    assert fault == (f"--listen: listen {text!r}: expected tcp://HOST:PORT as tcp://127.0.0.1:4460 or tcp://[::1]:4460")


# The cluster.

ONE, OTHER = "https://etcd-1.lan:2379", "https://[2001:db8::1]:4000"
SAFE = f"{ONE} {OTHER}"


def of_etcd(flags: dict[str, object]) -> Settings:
    return load(flags, {"MDNP_CONFIG": "/dev/null"})


def test_the_members_of_an_etcd_are_a_list_in_the_file_words_in_the_environment_and_flags_one_by_one(
    file: Path,
) -> None:
    urls = (EtcdURL("etcd-1.lan", 2379, tls=True), EtcdURL("2001:db8::1", 4000, tls=True))
    file.write_text(f'etcd = ["{ONE}", "{OTHER}"]\n')

    assert load({}, {}, file).etcd == urls
    assert load({}, {"MDNP_CONFIG": "/dev/null", "MDNP_ETCD": SAFE}).etcd == urls
    assert of_etcd({"etcd": SAFE}).etcd == urls
    assert shown(of_etcd({"etcd": SAFE}))["etcd"] == SAFE
    assert load({"etcd": "off"}, {}, file).etcd == ()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:2379", EtcdURL("127.0.0.1", 2379, tls=False)),
        ("https://etcd-1.lan", EtcdURL("etcd-1.lan", 2379, tls=True)),
        ("https://etcd-1.lan:65535/", EtcdURL("etcd-1.lan", 65535, tls=True)),
        ("http://[::1]:1", EtcdURL("::1", 1, tls=False)),
    ],
)
def test_a_server_is_a_url(text: str, url: EtcdURL) -> None:
    assert of_etcd({"etcd": f"{text} {text}"}).etcd == (url,)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:2379",
        "etcd://a:2379",
        "https://",
        "https://:2379",
        "https://a:0",
        "https://a:65536",
        "https://a/v3",
        "https://u:p@a",
        "https://::1:2379",
        "https://[127.0.0.1]:2379",
        "https://[::g]:2379",
        "https://a b",
    ],
)
def test_a_server_that_is_no_url_is_refused(text: str) -> None:
    [fault] = refusal({"etcd": text}, {})

    assert fault == (
        f"--etcd: etcd '{text}': expected https://HOST:PORT as https://etcd-1.example:2379 or http://[::1]:2379"
    )


def test_what_is_no_list_of_servers_is_refused(file: Path) -> None:
    file.write_text("etcd = 7\n")

    [fault] = refusal({}, {}, file)

    assert fault == f"{file}: etcd '7': expected off, or a list of texts as https://etcd-1.example:2379"


def test_certificates_and_a_user_are_taken_with_tls() -> None:
    given = {
        "etcd_ca": "/tls/ca.pem",
        "etcd_cert": "/tls/client.pem",
        "etcd_key": "/tls/client-key.pem",
        "etcd_user": "mdnp",
        "etcd_password_file": "/etc/mdnp/password",
    }

    assert {name: shown(of_etcd({"etcd": SAFE, **given}))[name] for name in given} == given


@pytest.mark.parametrize("url", ["http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379"])
def test_a_password_may_be_sent_in_clear_to_this_host(url: str) -> None:
    settings = of_etcd({"etcd": url, "etcd_user": "mdnp", "etcd_password_file": "/p"})

    assert settings.etcd_user == "mdnp"


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (
            {"etcd": "http://etcd-1.lan", "etcd_user": "mdnp", "etcd_password_file": "/p"},
            "etcd http://etcd-1.lan:2379: would be sent the password of etcd_user in clear: write https://",
        ),
        (
            {"etcd": f"http://127.0.0.1 {SAFE}", "etcd_ca": "/ca"},
            "etcd http://127.0.0.1:2379: etcd_ca is of no use without TLS: write https://",
        ),
        ({"etcd": SAFE, "etcd_cert": "/c"}, "etcd_cert '/c': is of no use without etcd_key"),
        ({"etcd": SAFE, "etcd_key": "/k"}, "etcd_key '/k': is of no use without etcd_cert"),
        ({"etcd": SAFE, "etcd_user": "mdnp"}, "etcd_user 'mdnp': is of no use without etcd_password_file"),
        ({"etcd": SAFE, "etcd_password_file": "/p"}, "etcd_password_file '/p': is of no use without etcd_user"),
    ],
)
def test_what_does_not_fit_together_is_refused(flags: dict[str, object], fault: str) -> None:
    assert refusal(flags, {"MDNP_CONFIG": "/dev/null"}) == [fault]


def test_what_only_etcd_needs_is_idle_without_it() -> None:
    assert of_etcd({"etcd": "off", "etcd_cert": "/c", "etcd_user": "mdnp"}).etcd == ()


@pytest.mark.parametrize("text", ["192.0.2.10", "10.0.0.1", "2001:db8::10"])
def test_a_host_has_an_address_for_the_others(text: str) -> None:
    assert of_etcd({"host_address": text}).host_address == ip_address(text)
    assert of_etcd({"host_address": "off"}).host_address is None


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "::", "224.0.0.1", "fe80::1", "169.254.1.1"])
def test_an_address_that_others_cannot_send_to_is_refused(text: str) -> None:
    [fault] = refusal({"host_address": text}, {})

    assert fault == (
        f"--host-address: host_address '{text}': other hosts cannot send there: take an address of the network that"
        " joins the hosts"
    )


@pytest.mark.parametrize("text", ["", "host-a", "192.0.2.0/24", "192.0.2.1:4789"])
def test_a_host_address_is_no_name(text: str) -> None:
    [fault] = refusal({"host_address": text}, {})

    assert fault == f"--host-address: host_address '{text}': expected off, or an address of this host as 192.0.2.10"


@pytest.mark.parametrize(("key", "good"), [("vxlan_port", (1, 8472, 65535)), ("lease", (3, 15, 300))])
def test_numbers_are_within_their_bounds(key: str, good: tuple[int, ...], file: Path) -> None:
    for number in good:
        file.write_text(f"{key} = {number}\n")
        assert getattr(load({}, {}, file), key) == number
    for text in (good[0] - 1, good[-1] + 1, "1.5", "-1", '"x"', "true"):
        file.write_text(f"{key} = {text}\n")
        [fault] = refusal({}, {}, file)
        assert f": {key} " in fault
        assert ": expected " in fault
