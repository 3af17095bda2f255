"""The way of questions in a sandbox, on real engines: ours to us, the rest to Docker's embedded DNS as before."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Thread

import pytest

from rig.command import until
from rig.host import GATEWAY, Namespace
from rig.image import IMAGE
from rig.process import Process
from rig.testbed import Testbed
from tests.engine import resolver
from tests.engine.conftest import Story
from tests.engine.holder import ADDRESS, BIG, MANY, OURS

pytestmark = pytest.mark.engine

_ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
# Asks, from the sandbox, all of the questions in argv at once, over UDP and TCP; the lines of what came, but for the
# id, in no order, as the addresses have none.
_ASK = """
import itertools, json, sys, dns.message, dns.query
from concurrent.futures import ThreadPoolExecutor
def ask(question, how, edns):
    query = dns.message.make_query(*question.split(), use_edns=edns)
    query.id = 0
    try:
        return sorted(how(query, "127.0.0.11", timeout=3).to_text().splitlines())
    except Exception as error:
        return [type(error).__name__]
ways = list(itertools.product(sys.argv[1:], (dns.query.udp, dns.query.tcp), (-1, 0)))
with ThreadPoolExecutor(64) as pool:
    answers = pool.map(lambda way: ask(*way), ways)
    names = (f"{question} {how.__name__} {edns}" for question, how, edns in ways)
    print(json.dumps(dict(zip(names, answers))))
"""
# Asks again and again from one port: who is answered, each time that it changes.
_AGAIN = """
import socket, sys, time, dns.message
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.bind(("127.0.0.1", 0))
asking.settimeout(1)
last, end = None, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    asking.sendto(dns.message.make_query(sys.argv[1], "A").to_wire(), ("127.0.0.11", 53))
    try:
        said = "answered" if dns.message.from_wire(asking.recv(4096)).answer else "empty"
    except TimeoutError:
        said = "nothing"
    if said != last:
        print(said, flush=True)
        last = said
    time.sleep(0.02)
"""


class Holder:
    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._process: Process | None = None

    def start(self, *containers: str) -> None:
        """Until it has those open that run."""
        host = self._testbed.host
        command = [sys.executable, "-m", "tests.engine.holder", str(host.exec_root / "netns")]
        self._process = host.rig.spawn(command, log=host.log / "holder.log", env=_ENV)
        for container in containers:
            until(partial(self.has, container), f"the sandbox of {container} to be open", 10)

    def has(self, container: str) -> bool:
        return "table ip mdnp" in self._testbed.sandbox(container, ["nft", "list", "tables"]).out

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def stop(self) -> None:
        if self._process:
            self._process.stop()


@pytest.fixture
def holder(testbed: Testbed) -> Iterator[Holder]:
    holder = Holder(testbed)
    yield holder
    holder.kill()


@pytest.fixture(autouse=True)
def outside(testbed: Testbed) -> Iterator[Namespace]:
    """Whom the engines ask for the names of others."""
    log = testbed.host.log / "resolver.log"
    process = testbed.outside.spawn([sys.executable, "-m", "tests.engine.resolver"], log=log, env=_ENV)
    yield testbed.outside
    process.kill()


def asked(story: Story, container: str, questions: Sequence[str]) -> Mapping[str, list[str]]:
    said = story.testbed.sandbox(container, [sys.executable, "-c", _ASK, *questions]).checked().out
    answers: Mapping[str, list[str]] = json.loads(said)
    return answers


def looked_up(story: Story, name: str, *options: str) -> str:
    """What the first process of a container is told of a name."""
    command = ("run", "--rm", *options, IMAGE, "nslookup", "-type=a", name)
    return story.engine.attempt(*command).said


def test_what_the_embedded_dns_says_stays_as_it_was(story: Story, holder: Holder) -> None:
    story.network()
    story.network("inner", "--internal")
    story.container("web")
    story.container("db1", "--network-alias=data", "--hostname=host1")
    story.container("shut", network="inner")
    address = story.address("db1")
    reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa PTR"
    names = ["db1", "data", "db1.mynet", "host1", "web", "nobody", resolver.ONE, resolver.BIG]
    questions = [reverse, "db1 SRV", *(f"{name} {kind}" for name in names for kind in ("A", "AAAA"))]
    inner = ["shut A", "shut.inner A", "web A", f"{resolver.ONE} A"]
    before = [*asked(story, "web", questions).items(), *asked(story, "shut", inner).items()]

    holder.start("web", "shut")

    after = [*asked(story, "web", questions).items(), *asked(story, "shut", inner).items()]
    assert [(was, now) for was, now in zip(before, after, strict=True) if was != now] == []
    assert f"db1. 600 IN A {address}" in dict(before)["db1 A udp -1"]


def test_ours_are_answered_over_both_transports(story: Story, holder: Holder) -> None:
    story.network()
    story.container("web")
    holder.start("web")

    answers = asked(story, "web", [f"{OURS} A", f"{BIG} A"])

    one = f"{OURS}. 2 IN A {ADDRESS}"
    assert all(one in answers[f"{OURS} A {how} {edns}"] for how in ("udp", "tcp") for edns in (-1, 0))
    assert sum(" 2 IN A " in line for line in answers[f"{BIG} A tcp 0"]) == MANY
    assert "TC" in next(line for line in answers[f"{BIG} A udp -1"] if line.startswith("flags"))


def test_the_first_process_of_each_of_many_is_answered(story: Story, holder: Holder) -> None:
    story.network()
    holder.start()
    lookup = ("run", "--rm", "--net=mynet", IMAGE, "nslookup", "-type=a", OURS)

    answers = story.engine.parallel(*([lookup] * 12))

    assert [one.said for one in answers if str(ADDRESS) not in one.out] == []


def test_containers_in_their_special_ways(story: Story, holder: Holder) -> None:
    story.network()
    story.network("inner", "--internal")
    story.container("web")
    holder.start("web")

    assert str(ADDRESS) in looked_up(story, OURS, "--net=inner")
    assert str(ADDRESS) in looked_up(story, OURS, "--net=container:web")
    assert str(ADDRESS) in looked_up(story, OURS, "--net=mynet", "--dns=10.255.0.1")  # nobody is there
    assert str(ADDRESS) in looked_up(story, OURS, "--net=mynet", f"--dns={GATEWAY.ip}")
    assert "198.51.100.1" in looked_up(story, resolver.ONE, "--net=mynet", f"--dns={GATEWAY.ip}")
    if story.engine.version != "20.10":
        story.network("six", "--ipv4=false", "--ipv6", "--subnet=fd77::/64")
        assert str(ADDRESS) in looked_up(story, OURS, "--net=six")


def test_restarts_and_more_networks(story: Story, holder: Holder) -> None:
    story.network("one")
    story.network("two")
    story.container("web", network="one")
    story.container("db1", network="two")
    holder.start("web", "db1")

    story.docker("network", "connect", "two", "web")
    assert story.address("db1", "two") in story.inside("web", "nslookup -type=a db1")
    story.docker("network", "disconnect", "one", "web")
    assert str(ADDRESS) in story.inside("web", f"nslookup -type=a {OURS}")
    story.docker("restart", "-t", "0", "web")
    story.soon(lambda: holder.has("web"))
    assert str(ADDRESS) in story.inside("web", f"nslookup -type=a {OURS}")
    assert story.address("db1", "two") in story.inside("web", "nslookup -type=a db1")


@pytest.mark.parametrize("end", [Holder.kill, Holder.stop])
def test_nobody_notices_that_we_end_and_return(story: Story, holder: Holder, end: Callable[[Holder], None]) -> None:
    """Nor who asks from the same port all the time."""
    story.network()
    story.container("web")
    story.container("db1")
    holder.start("web")
    heard: list[str] = []
    ask = [sys.executable, "-c", _AGAIN, "db1", "4"]
    asking = Thread(target=lambda: heard.append(story.testbed.sandbox("web", ask).checked().out))
    asking.start()

    end(holder)
    assert not holder.has("web")
    assert str(ADDRESS) not in story.inside("web", f"nslookup -type=a {OURS}; true")
    assert story.address("db1") in story.inside("web", "nslookup -type=a db1")
    holder.start("web")
    assert str(ADDRESS) in story.inside("web", f"nslookup -type=a {OURS}")

    asking.join()
    assert heard == ["answered\n"]
