"""Every rule of ours that drops has a reason that a user understands."""

import re

from mdnp.dataplane.rules import TABLES
from mdnp.trace.explain import OURS

_CHAIN = re.compile(r"chain (\w+) \{(.*?)\n    \}", re.DOTALL)


def _dropping() -> set[tuple[str, str, str]]:
    return {
        (table.family, name, line.strip())
        for table in TABLES
        for name, body in _CHAIN.findall(table.text)
        for line in body.splitlines()
        if re.search(r"\bdrop$", line)
    }


def test_each_dropping_rule_of_ours_is_explained_and_no_other() -> None:
    assert set(OURS) == _dropping()
    assert len(OURS) > 10
