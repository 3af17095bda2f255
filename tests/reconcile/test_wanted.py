"""Who wants which place of the kernel, when several may."""

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.objects import Addr, Key
from mdnp.dataplane.steps import Owner
from mdnp.reconcile.desired import Owned
from mdnp.reconcile.wanted import Wanted

A, B, C = map(Owner, "abc")
ONE, TWO = (Addr("mdb-one", ip_interface(f"10.1.0.{n}/24")) for n in (1, 2))


def plan(owner: Owner, *objects: Addr) -> dict[Key, Owned]:
    return {one.key: Owned(one, owner) for one in objects}


def owners(wanted: Wanted) -> dict[Key, Owner]:
    return {key: one.owner for key, one in wanted.desired.items()}


def test_what_an_owner_wants_takes_the_place_of_what_it_wanted() -> None:
    wanted = Wanted()

    first = wanted.put(A, plan(A, ONE))
    second = wanted.put(A, plan(A, TWO))
    third = wanted.put(A, {})

    assert (first, second, third) == ([ONE.key], [ONE.key, TWO.key], [TWO.key])
    assert wanted.desired == {}


def test_to_want_nothing_twice_is_nothing() -> None:
    wanted = Wanted()

    assert (wanted.put(A, {}), wanted.put(A, {}), wanted.desired) == ([], [], {})


@pytest.mark.parametrize(("leaves", "stays"), [(A, B), (B, A)])
def test_a_place_that_two_want_is_the_other_s_when_one_goes(leaves: Owner, stays: Owner) -> None:
    wanted = Wanted()
    for owner in (A, B):
        wanted.put(owner, plan(owner, ONE))
    before = owners(wanted)

    wanted.put(leaves, {})

    assert (before, owners(wanted)) == ({ONE.key: B}, {ONE.key: stays})
    assert wanted.put(stays, {}) == [ONE.key]
    assert wanted.desired == {}


plans = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.sets(st.sampled_from([ONE, TWO]))),
    max_size=12,
)


@given(plans)
def test_the_one_that_asked_last_has_the_place(story: list[tuple[Owner, set[Addr]]]) -> None:
    wanted, asked = Wanted(), dict[Key, list[Owner]]()
    for owner, objects in story:
        before = {key for key, who in asked.items() if owner in who}
        changed = wanted.put(owner, plan(owner, *objects))
        for key in before:
            asked[key].remove(owner)
        for one in objects:
            asked.setdefault(one.key, []).append(owner)

        assert owners(wanted) == {key: who[-1] for key, who in asked.items() if who}
        assert set(changed) == before | {one.key for one in objects}
