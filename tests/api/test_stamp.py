"""Who asked, as one annotation."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from api.stamp import GROUP_LIMIT, GROUPS, NAMED_GROUPS, USER_LIMIT, Stamp

TIME = "2026-11-21T10:13:10Z"
names = st.text(min_size=1, max_size=600)


def test_a_stamp_can_be_read_by_a_person() -> None:
    groups = ["system:authenticated", "team-b", "team-a", "team-a"]

    text = Stamp.of("alice", groups, TIME, "705ab4f5").text()

    assert text == f'{{"user":"alice","groups":["team-a","team-b"],"time":"{TIME}","review":"705ab4f5"}}'


def test_groups_that_tell_nobody_apart_are_left_out() -> None:
    name = "system:serviceaccount:ci:deployer"
    groups = ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"]

    assert Stamp.of(name, groups, TIME, "u").groups == ()
    assert Stamp.of("root", ["system:masters"], TIME, "u").groups == ("system:masters",)


def test_a_stamp_stays_small_and_says_what_it_left_out() -> None:
    groups = [f"g{number:04}" for number in range(500)] + ["a" * (GROUP_LIMIT + 1)]

    stamp = Stamp.of("u" * 5000, groups, TIME, "u")

    assert len(stamp.user) == USER_LIMIT
    assert stamp.groups == tuple(groups[:GROUPS])
    assert stamp.groups_omitted == 501 - GROUPS
    assert len(stamp.text()) < 4096


def test_groups_that_policies_name_are_taken_down_first() -> None:
    many = [f"g{number:04}" for number in range(500)]
    long = "z" * (GROUP_LIMIT + 1)

    stamp = Stamp.of("carol", [*many, long, "g0400"], TIME, "u", {long, "g0400", "of-somebody-else"})

    assert set(stamp.groups) == {long, "g0400", *many[: GROUPS - 2]}
    assert len(Stamp.of("carol", many, TIME, "u", set(many)).groups) == NAMED_GROUPS


def test_groups_that_follow_from_a_name_are_known_without_being_taken_down() -> None:
    everybody = "system:authenticated"
    accounts = ("system:serviceaccounts", "system:serviceaccounts:ci")

    assert Stamp.of("alice", ["team-a", everybody], TIME, "u").all_groups == ("team-a", everybody)
    assert Stamp.of("system:serviceaccount:ci:deployer", accounts, TIME, "u").all_groups == (*accounts, everybody)
    assert Stamp.of("system:anonymous", (), TIME, "u").all_groups == ("system:unauthenticated",)
    assert Stamp("system:serviceaccount:").all_groups == (everybody,)
    assert Stamp().all_groups == ()


def test_the_plain_name_of_earlier_stamps_is_still_read() -> None:
    for name in ("alice", "1234", '"quoted"', "system:serviceaccount:ci:deployer", "{broken"):
        assert Stamp.read(name) == Stamp(name)


@given(names, st.lists(names, max_size=30))
def test_what_was_stamped_is_what_is_read(user: str, groups: list[str]) -> None:
    """Also of a user whose name looks like a stamp."""
    stamp = Stamp.of(user, groups, TIME, "uid")
    disguised = Stamp.of(stamp.text()[:USER_LIMIT], [], TIME, "other")

    assert Stamp.read(stamp.text()) == stamp
    assert Stamp.read(disguised.text()) == disguised


@given(st.dictionaries(st.sampled_from(["user", "groups", "groupsOmitted", "time", "review"]), st.none() | names))
def test_a_stamp_of_wrong_types_does_not_stop_its_reader(found: dict[str, str | None]) -> None:
    read = Stamp.read(json.dumps(found))

    assert read.user == (found.get("user") or "")
    assert read.groups == ()
