"""Docker's ids."""

import pytest

from mdnp.model.errors import InvalidParameter
from mdnp.model.identity import endpoint_id, network_id, short


@pytest.mark.parametrize("text", ["a1" * 32, "tjpdt7yjx1n5qk2q0y4k9c8ve", "0123456789ab", "A" * 128])
def test_ids_of_every_kind_are_taken_as_they_are(text: str) -> None:
    assert (network_id(text), endpoint_id(text)) == (text, text)


@pytest.mark.parametrize(
    "text", ["", "short", "a" * 129, "../../etc/passwd", "a1" * 31 + "a\n", "a b" * 10, "é" * 20, "\0" * 20]
)
def test_what_is_no_id_is_refused_with_its_field(text: str) -> None:
    for parse, field in ((network_id, "NetworkID"), (endpoint_id, "EndpointID")):
        with pytest.raises(InvalidParameter, match=f"^{field} .*: an id is 12 to 128 letters and digits$"):
            parse(text)


def test_people_see_twelve_characters() -> None:
    assert short("a1" * 32) == "a1a1a1a1a1a1"
