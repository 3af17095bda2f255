"""What is to be reached, as users write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.errors import InvalidParameter
from mdnp.trace.target import Asked, Target, parse

PING, TCP, UDP = Asked.PING, Asked.TCP, Asked.UDP


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("192.0.2.1", Target("192.0.2.1", 0, PING)),
        ("192.0.2.1:80", Target("192.0.2.1", 80, TCP)),
        ("192.0.2.1:53/udp", Target("192.0.2.1", 53, UDP)),
        ("fd77::2", Target("fd77::2", 0, PING)),
        ("[fd77::2]", Target("fd77::2", 0, PING)),
        ("[fd77::2]:80/tcp", Target("fd77::2", 80, TCP)),
        ("db", Target("db", 0, PING)),
        ("my_stack-db.1:5432", Target("my_stack-db.1", 5432, TCP)),
        ("0123456789ab:65535/udp", Target("0123456789ab", 65535, UDP)),
    ],
)
def test_an_address_or_a_name_with_a_port_or_without_is_read(text: str, target: Target) -> None:
    assert parse(text) == target
    assert parse(str(target)) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither an address nor a name"),
        ("a b", "neither an address nor a name"),
        ("-x", "neither an address nor a name"),
        ("db:", "no port after the colon"),
        ("db:0", "'0' is no port"),
        ("db:65536", "'65536' is no port"),
        ("db:http", "'http' is no port"),
        ("db/udp", "/udp needs a port"),
        ("db:80/sctp", "/sctp is neither /tcp nor /udp"),
        ("[fd77::2", "after [ADDRESS] only :PORT"),
        ("[fd77::2]80", "after [ADDRESS] only :PORT"),
        ("[fd77::2]:", "after [ADDRESS] only :PORT"),
        ("fd77::2:x", "neither an address nor a name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason_and_the_form(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse(text)

    assert why in str(refused.value)
    assert "NAME:PORT" in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        target = parse(text)
    except InvalidParameter:
        return
    assert parse(str(target)) == target
