"""What is known of the cluster, against a fold that looks through everything each time."""

from collections.abc import Mapping
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from mdnp.cluster import Entry, Event
from mdnp.member import About
from mdnp.member.records import key, value
from mdnp.member.rows import EndpointRow, HostRow, MemberRow, RemovedRow, Row
from mdnp.member.view import View
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.segment import RemoteEndpoint, RemoteID, SegmentID

ME, A, B = (HostID(letter * 16) for letter in "cab")
HOSTS = [ME, A, B]
BLUE, RED = SegmentID("10.50.0.0/16"), SegmentID("10.51.0.0/16")

hosts = st.sampled_from(HOSTS)
segments = st.sampled_from([BLUE, RED])


def endpoint(segment: SegmentID, host: HostID, name: str, numbers: tuple[int, int, int]) -> EndpointRow:
    """Of these numbers: the last of its address, the last of its MAC, its generation."""
    last, mac, generation = numbers
    address = ip_address(f"{segment.partition('.0.0/')[0]}.0.{last}")
    return EndpointRow(segment, host, name, MAC(f"02:00:00:00:00:{mac:02x}"), (address,), generation)


rows: st.SearchStrategy[Row] = st.one_of(
    st.builds(HostRow, hosts, st.just("h"), st.integers(1, 3).map(lambda n: ip_address(f"192.0.2.{n}")), st.just(1)),
    st.builds(RemovedRow, hosts),
    st.builds(MemberRow, segments, hosts),
    st.builds(endpoint, segments, hosts, st.sampled_from("xy"), st.tuples(*[st.integers(1, 3)] * 3)),
)
# A row that comes (or changes), a row that goes, or hosts that are gone.
Change = tuple[str, Row] | tuple[str, frozenset[HostID]]
changes: st.SearchStrategy[list[Change]] = st.lists(
    st.one_of(
        st.tuples(st.just("put"), rows),
        st.tuples(st.just("drop"), rows),
        st.tuples(st.just("gone"), st.frozensets(st.sampled_from([A, B]))),
    ),
    max_size=40,
)


def plain_remotes(rows: Mapping[str, Row], gone: frozenset[HostID]) -> dict[RemoteID, RemoteEndpoint]:
    """The same in words: each address and each MAC has one row, ours before others, then the newest."""
    vteps = {row.host: row.vtep for row in rows.values() if isinstance(row, HostRow)}
    removed = {row.host for row in rows.values() if isinstance(row, RemovedRow)}
    shown = {host for host in vteps if host != ME and host not in removed | gone}
    told = [row for row in rows.values() if isinstance(row, EndpointRow) and row.host in shown | {ME}]
    told.sort(key=lambda row: (row.host == ME, row.generation, row.id))
    by_address = {(row.segment, address): row for row in told for address in row.addresses}
    by_mac = {(row.segment, row.mac): row for row in told}
    found = {}
    for row in told:
        addresses = tuple(one for one in row.addresses if by_address[row.segment, one] == row)
        if row.host != ME and addresses and by_mac[row.segment, row.mac] == row:
            found[row.id] = RemoteEndpoint(
                row.id, row.segment, row.host, vteps[row.host], row.mac, addresses, row.generation
            )
    return found


@given(changes)
def test_remotes_are_what_a_plain_fold_says_and_each_change_is_told(changes: list[Change]) -> None:
    view, stood, gone = View(ME), dict[str, Row](), frozenset[HostID]()
    before: dict[RemoteID, RemoteEndpoint] = {}
    for number, (what, of) in enumerate(changes, start=1):
        if isinstance(of, frozenset):
            gone = of
            news = view.set_gone(gone)
        elif what == "put":
            stood[key(of)] = of
            news = view.feed([Event(key(of), Entry(value(of), number))])
        else:
            stood.pop(key(of), None)
            news = view.feed([Event(key(of), None)])
        now = plain_remotes(stood, gone)

        assert dict(view.remotes) == now
        assert {one.id for segment in (BLUE, RED) for one in view.remotes_of(segment)} == now.keys()
        assert news.remotes == {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}
        before = now


@given(changes)
def test_members_are_told_when_they_change(changes: list[Change]) -> None:
    view = View(ME)
    before = {BLUE: view.members_of(BLUE), RED: view.members_of(RED)}
    for number, (what, of) in enumerate(changes, start=1):
        if isinstance(of, frozenset):
            news = view.set_gone(of)
        else:
            news = view.feed([Event(key(of), Entry(value(of), number) if what == "put" else None)])
        now = {BLUE: view.members_of(BLUE), RED: view.members_of(RED)}

        assert {one for one in now if now[one] != before[one]} <= news.segments
        before = now


@given(changes, changes)
def test_a_snapshot_leaves_what_the_events_would_have(first: list[Change], second: list[Change]) -> None:
    view, fresh, stood = View(ME), View(ME), dict[str, Entry]()
    for number, (what, of) in enumerate([*first, *second], start=1):
        if isinstance(of, frozenset):
            continue
        if what == "drop" and isinstance(of, HostRow | RemovedRow):
            continue  # a host's row goes with a tombstone only, and that stays: what is missing otherwise was lost
        if what == "put":
            stood[key(of)] = Entry(value(of), number)
        else:
            stood.pop(key(of), None)
        if number <= len(first):
            view.feed([Event(key(of), stood.get(key(of)))])
    view.replace(stood, 1)
    fresh.replace(stood, 1)

    assert dict(view.remotes) == dict(fresh.remotes)
    assert view.members_of(BLUE) == fresh.members_of(BLUE)
    assert view.hosts == fresh.hosts
    assert view.entries() == fresh.entries() == stood


def told(view: View, *rows: Row, epoch: int = 0) -> None:
    if epoch:
        view.replace({key(row): Entry(value(row), 1) for row in rows}, epoch)
    else:
        view.feed(Event(key(row), Entry(value(row), 1)) for row in rows)


def host(identity: HostID, epoch: int = 1, last: int = 7) -> HostRow:
    return HostRow(identity, "h", ip_address(f"192.0.2.{last}"), epoch)


def test_what_a_host_told_is_kept_until_it_tells_for_the_new_epoch() -> None:
    view = View(ME)
    kept, other = endpoint(BLUE, A, "x", (1, 1, 0)), endpoint(BLUE, A, "y", (2, 2, 0))
    told(view, host(A), kept, epoch=1)

    told(view, other, epoch=2)
    assert set(view.remotes) == {kept.id}
    assert view.unseeded() == [A]
    assert not view.went_back({key(kept): Entry(b"", 1)}, 5), "revisions of the lost data mean nothing"

    told(view, host(A, epoch=2))
    assert set(view.remotes) == {other.id}
    assert view.unseeded() == []


def test_older_data_shows_by_a_key_written_earlier_or_one_that_was_gone() -> None:
    view = View(ME)
    told(view, host(A), host(B), epoch=1)
    view.feed([Event(key(host(B)), None), Event(key(host(A)), Entry(value(host(A)), 5))])

    assert not view.went_back({key(host(A)): Entry(b"", 5)}, 6)
    assert not view.went_back({key(host(A)): Entry(b"", 7), key(host(B)): Entry(b"", 7)}, 6)
    assert view.went_back({key(host(A)): Entry(b"", 4)}, 6)
    assert view.went_back({key(host(B)): Entry(b"", 6)}, 6)


def test_what_a_removed_host_told_is_not_kept() -> None:
    view = View(ME)
    told(view, host(A), endpoint(BLUE, A, "x", (1, 1, 0)), epoch=1)
    told(view, epoch=2)
    told(view, RemovedRow(A))

    assert (dict(view.remotes), view.unseeded(), view.keys_of(A)) == ({}, [], set())


def test_what_is_kept_is_written_down_as_it_was() -> None:
    view = View(ME)
    row = endpoint(BLUE, A, "x", (1, 1, 0))
    told(view, host(A), row, epoch=1)
    view.unwritten()
    told(view, epoch=2)

    assert view.unwritten() == {key(row): Entry(value(row), 0), key(host(A)): Entry(value(host(A)), 0)}
    assert view.unwritten() == {}


def test_two_hosts_of_one_vtep_are_reported() -> None:
    view = View(ME)
    told(view, host(A), host(B))

    assert [remark.about for remark in view.remarks()] == [About.HOST]
