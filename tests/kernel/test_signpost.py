"""What leads questions to the servers of names at gateways, and that it ends with its process."""

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from mdnp.kernel.signpost import TABLE, Signpost, Signposts
from mdnp.model.errors import KernelError
from mdnp.model.port import Protocol
from tests.kernel.grounds import own_namespace, run

pytestmark = pytest.mark.root

FOUR = Signpost("mdb-1", ip_address("10.1.0.1"), Protocol.UDP, 4000)
SIX = Signpost("lab.0", ip_address("fd01::1"), Protocol.TCP, 4001)
_KILLED = """
import os
from mdnp.kernel.signpost import Signposts
from tests.kernel.test_signpost import FOUR
Signposts().put_up([FOUR])
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


def elements() -> list[str]:
    said = run("nft", "list", "table", "inet", TABLE)
    return [line.partition("=")[2].strip() for line in said.splitlines() if "elements" in line]


def test_these_and_no_others_stand() -> None:
    signposts = Signposts()
    signposts.put_up([FOUR, SIX])
    assert elements() == [
        '{ "mdb-1" . 10.1.0.1 . udp : 10.1.0.1 . 4000 }',
        '{ "lab.0" . fd01::1 . tcp : fd01::1 . 4001 }',
    ]
    signposts.put_up([FOUR])
    assert elements() == ['{ "mdb-1" . 10.1.0.1 . udp : 10.1.0.1 . 4000 }']
    signposts.put_up([])
    assert run("nft", "list", "tables") == ""
    signposts.put_up([FOUR])
    assert len(elements()) == 1
    signposts.close()
    signposts.close()
    signposts.put_up([FOUR])  # by a thread that comes late
    assert run("nft", "list", "tables") == ""


def test_nobody_else_takes_it_away() -> None:
    signposts = Signposts()
    signposts.put_up([FOUR])
    run("nft", "flush", "ruleset")
    assert len(elements()) == 1
    signposts.close()


def test_it_ends_with_its_process() -> None:
    assert subprocess.run([sys.executable, "-c", _KILLED], check=False).returncode == -9
    assert run("nft", "list", "tables") == ""


def test_a_table_that_another_process_has_is_an_error_and_what_stood_before_stands() -> None:
    first, second = Signposts(), Signposts()
    first.put_up([FOUR])
    with pytest.raises(KernelError, match=r"Linux 5\.12"):
        second.put_up([SIX])
    assert elements() == ['{ "mdb-1" . 10.1.0.1 . udp : 10.1.0.1 . 4000 }']
    second.close()
    first.close()
