"""Metrics, log and modules of the daemon as a process, over its sockets and a port of its own network namespace."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdnp.measures import CONTENT_TYPE
from tests.ipam.daemon import Daemon, Door
from tests.ipam.house import request_address, request_pool

pytestmark = pytest.mark.root

PLACE = "127.0.0.1:9677"
ENDPOINT = {"NetworkID": "1" * 64, "EndpointID": "2" * 64}
IPV4 = {"AddressSpace": "test", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24"}
PORT = {"Proto": 6, "Port": 80, "HostPort": 20000, "HostPortEnd": 20000}
POOL = "mdnp-local/10.1.0.0/24"
# Whose packages a host alone loads: click's, msgspec's, and aiohttp's with what it needs.
LIBRARIES = {"aiohttp", "click", "msgspec"} | {
    "aiohappyeyeballs",
    "aiosignal",
    "attr",
    "frozenlist",
    "idna",
    "multidict",
    "propcache",
    "typing_extensions",
    "yarl",
}
# What of ours, and of Python's, only others need: members of a cluster, hosts with names, commands.
ELSEWHERE = (
    "mdnp.member.",
    "mdnp.declared.declarer",
    "mdnp.cluster.etcd",
    "mdnp.cluster.servers",
    "mdnp.dns.messages",
    "mdnp.dns.roads",
    "mdnp.dns.server",
    "mdnp.doctor",
    "mdnp.install",
    "mdnp.trace",
    "concurrent.futures.process",
    "importlib.metadata",
    "multiprocessing",
    "unittest",
    "xml",
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, MDNP_LOG_LEVEL="info", MDNP_LOG_FORMAT="json", MDNP_METRICS=PLACE)
    daemon.start()
    yield daemon
    daemon.end()


def scraped(daemon: Daemon) -> dict[tuple[str, ...], float]:
    """Over the operator's socket."""
    with closing(Door(daemon.runtime / "admin.sock")) as door:
        door.request("GET", "/metrics")
        with door.getresponse() as response:
            assert (response.status, response.headers["Content-Type"]) == (200, CONTENT_TYPE)
            text = response.read().decode()
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def curl(daemon: Daemon, *arguments: str) -> str:
    """In the daemon's network namespace, where nothing but it is."""
    entered = [
        "nsenter",
        f"--net=/proc/{daemon.pid}/ns/net",
        "--",
        "sh",
        "-c",
        'ip link set lo up; exec curl "$@"',
        "curl",
    ]
    done = subprocess.run([*entered, "-sS", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(daemon: Daemon) -> list[dict[str, str]]:
    """Of the log, each parsed."""
    return [json.loads(line) for line in daemon.log.read_text().splitlines()]


def test_calls_commits_and_pools_are_in_the_metrics(daemon: Daemon) -> None:
    daemon.call("RequestPool", request_pool("10.1.0.0/24"))
    daemon.call("RequestAddress", request_address(POOL))
    status, reply = daemon.call("RequestAddress", request_address("nowhere"))

    shown = scraped(daemon)

    verb = ("IpamDriver", "RequestAddress")
    assert status != 200
    assert shown["mdnp_call_duration_seconds_count", *verb] == 2
    assert shown["mdnp_call_errors_total", *verb] == 1
    assert shown["mdnp_store_commit_duration_seconds_count",] >= 2
    assert shown["mdnp_pool_addresses", POOL, "used"] == 1
    assert shown["mdnp_docker_up",] == 0
    assert shown["mdnp_database_bytes",] > 0
    [line] = [line for line in lines(daemon) if line["call"] and line["call"] in reply["Err"]]
    assert f"{line['message']} (call {line['call']})" == f"IpamDriver.RequestAddress refused: {reply['Err']}"


def test_the_loopback_port_shows_the_same_and_takes_no_orders(daemon: Daemon) -> None:
    assert "\nmdnp_networks 0\n" in curl(daemon, f"http://{PLACE}/metrics")
    assert "GET it" in curl(daemon, "-X", "POST", f"http://{PLACE}/metrics")
    assert "nothing is at /gc" in curl(daemon, "-X", "POST", f"http://{PLACE}/gc")
    assert "by an address" in curl(daemon, "-H", "Host: evil.example", f"http://{PLACE}/metrics")


def test_a_stop_under_a_kept_scrape_is_quick_and_well(daemon: Daemon) -> None:
    curl(daemon, f"http://{PLACE}/metrics", f"http://{PLACE}/metrics")

    assert daemon.stop() == 0
    assert lines(daemon)[-1]["message"] == "stopping: answering what was asked"


@pytest.mark.usefixtures("daemon")
def test_why_the_daemon_ends_is_in_its_log(tmp_path: Path) -> None:
    second = Daemon(tmp_path, "second", MDNP_LOG_FORMAT="json")

    code = second.attempt()

    assert code == 1
    assert (lines(second)[-1]["level"], "in use by another mdnp" in lines(second)[-1]["message"]) == ("critical", True)


def loaded(said: str) -> set[str]:
    """The modules of which Python says that it imported them."""
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def test_a_host_alone_loads_only_what_it_needs(tmp_path: Path) -> None:
    """Its memory and the time that it takes to start are mostly modules."""
    daemon = Daemon(tmp_path, PYTHONPROFILEIMPORTTIME="1")
    daemon.start()
    try:
        with daemon.door() as door:
            for verb, body in (
                ("CreateNetwork", {"NetworkID": "1" * 64, "IPv4Data": [IPV4]}),
                ("CreateEndpoint", {**ENDPOINT, "Interface": {"Address": "10.1.0.2/24"}}),
                ("Join", {**ENDPOINT, "SandboxKey": "/run/test/sandbox"}),
                ("ProgramExternalConnectivity", {**ENDPOINT, "Options": {"com.docker.network.portmap": [PORT]}}),
            ):
                door.request("POST", f"/NetworkDriver.{verb}", json.dumps(body))
                with door.getresponse() as response:
                    assert response.status == 200, response.read()
        daemon.shown("/status")
        scraped(daemon)
        daemon.stop()
    finally:
        daemon.end()
    bare = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True)

    modules = loaded(daemon.log.read_text()) - loaded(bare.stderr)

    packages = {one.partition(".")[0] for one in modules} - sys.stdlib_module_names - LIBRARIES - {"mdnp"}
    assert "mdnp.kernel.ports" in modules
    assert sorted(one for one in packages if find_spec(one)) == []  # else it was only tried
    assert sorted(one for one in modules if one.startswith(ELSEWHERE)) == []
