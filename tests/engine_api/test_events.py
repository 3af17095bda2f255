"""What of Docker's events is heard."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.engine import Happening, Subject
from mdnp.engine.events import Lines, happening

WEB, MYNET = "c3" * 32, "a1" * 32
LABELS = {"com.docker.compose.service": "shop", "image": "busybox:rig", "name": "web"}


def event(kind: str, action: str, actor: str, **attributes: Any) -> dict[str, Any]:
    """As 20.10 and 28.5 send them."""
    return {
        "status": action,
        "id": actor,
        "from": "busybox:rig",
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": attributes},
        "scope": "local",
        "time": 1795983014,
        "timeNano": 1795983014430000000,
    }


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (event("container", "start", WEB, **LABELS), Happening(Subject.CONTAINER, WEB)),
        (event("container", "rename", WEB, **LABELS, oldName="/web"), Happening(Subject.CONTAINER, WEB)),
        (event("container", "die", WEB, **LABELS, exitCode="137"), Happening(Subject.GONE, WEB)),
        (event("container", "create", WEB, **LABELS), None),
        (event("network", "create", MYNET, name="mynet", type="mdnp"), Happening(Subject.NETWORKS)),
        (event("network", "connect", MYNET, container=WEB, name="mynet"), Happening(Subject.CONTAINER, WEB)),
        (event("network", "connect", MYNET, name="mynet"), None),
        (event("network", "disconnect", MYNET, container=WEB, name="mynet"), None),
        (event("container", "start", ""), None),
        ({"Type": "container", "Action": "start"}, None),
        ({"Type": "container", "Action": "start", "Actor": {"ID": [WEB]}}, None),
        ({"Type": "network", "Action": "connect", "Actor": {"Attributes": {"container": 7}}}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_is_looked_at_anew(said: Any, heard: Happening | None) -> None:
    assert happening(json.dumps(said).encode()) == heard


@given(st.binary() | st.integers(0, 9000).map(lambda depth: b"[" * depth))
def test_no_line_is_too_odd(line: bytes) -> None:
    assert happening(line) is None


@given(st.lists(st.binary(max_size=12), max_size=8), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    lines = [one.replace(b"\n", b"") for one in lines]
    text = b"".join(one + b"\n" for one in lines)
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    cutter = Lines(longest=8)

    assert [line for part in parts for line in cutter.cut(part)] == [one for one in lines if len(one) <= 8]


def test_of_a_line_without_an_end_nothing_is_kept() -> None:
    cutter = Lines(longest=8)

    assert [line for _ in range(100) for line in cutter.cut(b"x" * 100)] == []
    assert list(cutter.cut(b"\nback\n")) == [b"back"]
