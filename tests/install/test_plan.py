"""What becomes of a file."""

from mdnp.install.plan import Decision, Fate, File, digest, strangers, to_install, to_uninstall

UNIT = File("/etc/systemd/system/mdnp.service", "new")
CONFIGURATION = File("/etc/mdnp/mdnp.toml", "new", is_configuration=True)
OLD, OTHER = digest(b"old"), digest(b"an operator's")


def fate(file: File, seen: str | None, *ours: str) -> Fate:
    [decision] = to_install([file], {file.path: seen}, {file.path: ours} if ours else {})
    return decision.fate


def test_what_is_not_there_is_written() -> None:
    assert fate(UNIT, None) is Fate.WRITE
    assert fate(UNIT, None, OLD) is Fate.WRITE


def test_what_is_as_it_should_be_is_unchanged_whoever_wrote_it() -> None:
    assert fate(UNIT, UNIT.digest) is Fate.UNCHANGED


def test_what_we_wrote_is_replaced() -> None:
    assert fate(CONFIGURATION, OLD, OLD) is Fate.REPLACE


def test_what_others_changed_is_kept() -> None:
    assert fate(CONFIGURATION, OTHER, OLD) is Fate.KEEP
    assert fate(CONFIGURATION, OTHER) is Fate.KEEP


def test_a_changed_configuration_is_no_stranger_and_a_changed_unit_is_one() -> None:
    seen = {UNIT.path: OTHER, CONFIGURATION.path: OTHER}
    assert strangers(to_install([UNIT, CONFIGURATION], seen, {})) == [UNIT.path]


def test_what_an_earlier_version_wrote_and_this_one_does_not_is_removed() -> None:
    decisions = to_install([], {"/old": OLD}, {"/old": [OLD]})
    assert decisions == [Decision("/old", Fate.REMOVE)]


def test_only_what_we_wrote_is_taken_out() -> None:
    recorded = {"/ours": [OLD], "/changed": [OLD], "/gone": [OLD]}
    present = {"/ours": OLD, "/changed": OTHER, "/gone": None}
    assert to_uninstall(present, recorded) == [Decision("/ours", Fate.REMOVE), Decision("/changed", Fate.KEEP)]
