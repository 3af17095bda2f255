"""Elements that are packed here, as nft reads them back from the kernel."""

import time
from collections.abc import Iterator

import pytest

from mdnp.dataplane.objects import Element
from mdnp.dataplane.rules import TABLES
from mdnp.dataplane.steps import NOBODY, Add, Delete
from mdnp.kernel import elements
from mdnp.kernel.nftables import Nftables
from mdnp.kernel.tables import Tables
from mdnp.model.errors import KernelError
from tests.kernel.grounds import own_namespace

LINK, OTHER, MAC = '"mdv-0123456789a"', '"mdb-1"', "02:6d:0a:01:00:02"
NUMBER = "0xfd000000000000000000000000000002"
EXAMPLES = {
    ("inet", "bridges"): Element("inet", "bridges", (LINK,)),
    ("inet", "own"): Element("inet", "own", (OTHER, OTHER)),
    ("inet", "open4"): Element("inet", "open4", ("10.1.0.2", "tcp", "80")),
    ("inet", "open6"): Element("inet", "open6", ("fd00::2", "sctp", "80")),
    ("inet", "ports4"): Element("inet", "ports4", ("tcp", "8080"), ("10.1.0.2", "80")),
    ("inet", "ports6"): Element("inet", "ports6", ("udp", "53"), ("fd00::2", "5353")),
    ("inet", "bound4"): Element("inet", "bound4", ("192.0.2.1", "sctp", "65535"), ("10.1.0.2", "1")),
    ("inet", "bound6"): Element("inet", "bound6", ("2001:db8::1", "tcp", "443"), ("fd00::2", "443")),
    ("inet", "hosts4"): Element("inet", "hosts4", (OTHER, OTHER, "10.1.0.3")),
    ("inet", "hosts6"): Element("inet", "hosts6", (OTHER, OTHER, "fd00::3")),
    ("inet", "tunnels"): Element("inet", "tunnels", ("4789",)),
    ("inet", "vnis"): Element("inet", "vnis", ("0x12345",)),
    ("inet", "vteps4"): Element("inet", "vteps4", ("0x12345", "192.0.2.7")),
    ("inet", "vteps6"): Element("inet", "vteps6", ("0x1", "2001:db8::7")),
    ("bridge", "macs"): Element("bridge", "macs", (LINK, MAC)),
    ("bridge", "addresses4"): Element("bridge", "addresses4", (LINK, "10.1.0.2")),
    ("bridge", "addresses6"): Element("bridge", "addresses6", (LINK, "fd00::2")),
    ("bridge", "targets6"): Element("bridge", "targets6", (LINK, NUMBER)),
    ("bridge", "hosts"): Element("bridge", "hosts", (MAC,)),
    ("bridge", "returns"): Element("bridge", "returns", (LINK, LINK)),
    ("bridge", "here4"): Element("bridge", "here4", (LINK, "10.1.0.2")),
    ("bridge", "here6"): Element("bridge", "here6", (LINK, NUMBER)),
}


@pytest.fixture
def tables() -> Iterator[Tables]:
    with own_namespace():
        made = Tables()
        made.perform([Add(table, NOBODY) for table in TABLES])
        yield made
        made.close()


@pytest.fixture
def nft() -> Iterator[Nftables]:
    opened = Nftables.open()
    yield opened
    opened.close()


def seen(tables: Tables) -> set[Element]:
    return {one for one in tables.observe().objects if isinstance(one, Element)}


def like(one: Element) -> Element | None:
    """An example of a set of the same kind of keys."""
    names = {"guarded": "bridges", "free": "bridges", "noicc": "bridges", "gateways": "macs", "anycast": "macs"}
    names |= dict.fromkeys(("annexes", "closed", "sealed", "uplinks", "nat4", "nat6", "routed4", "routed6"), "bridges")
    found = EXAMPLES.get((one.family, one.set)) or next(
        (example for (_, name), example in EXAMPLES.items() if name == names.get(one.set)), None
    )
    return found and Element(one.family, one.set, found.parts, found.value)


@pytest.mark.parametrize(("family", "name"), sorted(elements.KINDS))
@pytest.mark.root
def test_what_we_pack_is_what_nft_reads(tables: Tables, nft: Nftables, family: str, name: str) -> None:
    element = like(Element("inet" if family == "inet" else "bridge", name, ()))
    assert element is not None, "a new kind of set: give it an example"
    assert elements.messages([Add(element, NOBODY)]) is not None
    tables.perform([Add(element, NOBODY)])
    assert seen(tables) == {element}
    tables.perform([Add(element, NOBODY)])  # once more is no error
    tables.perform([Delete(element, NOBODY)])
    assert seen(tables) == set()
    nft.run(f"add {element}")
    tables.perform([Delete(element, NOBODY)])
    assert seen(tables) == set()


@pytest.mark.root
def test_of_a_transaction_that_fails_nothing_is_done(tables: Tables) -> None:
    first, missing = EXAMPLES["inet", "ports4"], EXAMPLES["bridge", "hosts"]
    with pytest.raises(KernelError, match="No such file or directory"):
        tables.perform([Add(first, NOBODY), Delete(missing, NOBODY)])
    with pytest.raises(KernelError, match="No such file or directory"):
        tables.perform([Delete(missing, NOBODY), Add(first, NOBODY)])
    assert seen(tables) == set()


@pytest.mark.root
def test_a_port_that_leads_elsewhere_is_not_led_away(tables: Tables) -> None:
    first = EXAMPLES["inet", "ports4"]
    tables.perform([Add(first, NOBODY)])
    with pytest.raises(KernelError, match="nf_tables"):
        tables.perform([Add(Element("inet", "ports4", first.parts, ("10.1.0.9", "80")), NOBODY)])
    assert seen(tables) == {first}


@pytest.mark.root
def test_thousands_at_once(tables: Tables) -> None:
    many = [Element("inet", "open4", (f"10.1.{n >> 8}.{n & 255}", "tcp", "80")) for n in range(20_000)]
    tables.perform([Add(one, NOBODY) for one in many])
    until = time.monotonic() + 20
    while seen(tables) != set(many):  # a listing while the kernel makes room in the set lacks some
        assert time.monotonic() < until
    with pytest.raises(KernelError):  # each fails, and more answers come than there is room for
        tables.perform([Delete(one, NOBODY) for one in [*many, *many]])
    tables.perform([Delete(one, NOBODY) for one in many])
    assert seen(tables) == set()


def test_intervals_and_tables_are_left_to_nft() -> None:
    assert elements.messages([Add(Element("bridge", "allowed4", (LINK, "10.0.0.0/8")), NOBODY)]) is None
    assert elements.messages([Add(Element("inet", "hairpin4", (OTHER, "10.0.0.0/8")), NOBODY)]) is None
    assert elements.messages([Add(TABLES[0], NOBODY), Add(EXAMPLES["bridge", "hosts"], NOBODY)]) is None
