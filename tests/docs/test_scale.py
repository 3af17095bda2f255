"""The page that the benchmark of a fleet writes its table into."""

from pathlib import Path

from bench import page

_PAGE = Path(__file__).parents[2] / "docs/scale.md"
_MACHINE = {"commit": "0a1b2c3", "kernel": "6.1", "python": "3.11.2", "processors": 2, "load_before": 0.1}
_TABLE = """\
Commit 0a1b2c3, Linux 6.1, Python 3.11.2, 2 processors, load 0.1 before.

| figure | unit | 50 hosts |
| --- | --- | --- |
| etcd's memory | MiB | 50 |
"""


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    written = tmp_path / "scale.md"
    written.write_text(_PAGE.read_text())
    page.update(written, [{"figure": "another", "unit": "s", "50 hosts": 1}], _MACHINE)

    page.update(written, [{"figure": "etcd's memory", "unit": "MiB", "50 hosts": 50}], _MACHINE)

    before, table, after = written.read_text().partition(_TABLE)
    assert (table, "another" in before + after, after.endswith(_PAGE.read_text()[-1000:])) == (_TABLE, False, True)
