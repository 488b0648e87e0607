"""Slots: never more than an endpoint bears, and everybody's turn comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.slots import WINDOW, Key, Limits, Slots, Turn

ONE = Limits(jobs=1)


def turn(namespace: str, name: str, *, deletes: bool = False) -> Turn:
    return Turn((namespace, name), f"{namespace}-{name}", deletes=deletes)


def test_an_endpoint_bears_as_many_jobs_as_it_says() -> None:
    slots = Slots()

    assert slots.request("main", turn("a", "1"), Limits(jobs=2), 0.0) is None
    assert slots.request("main", turn("a", "2"), Limits(jobs=2), 0.0) is None
    assert slots.request("main", turn("a", "3"), Limits(jobs=2), 0.0) is not None


def test_another_endpoint_has_slots_of_its_own() -> None:
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)

    assert slots.request("other", turn("a", "2"), ONE, 0.0) is None


def test_an_operation_that_has_its_slot_is_not_counted_again() -> None:
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)

    assert slots.request("main", turn("a", "1"), ONE, 0.0) is None


def test_a_freed_slot_is_kept_for_the_one_whose_turn_it_is() -> None:
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)
    slots.request("main", turn("a", "2"), ONE, 0.0)

    assert slots.release("main", "a-1") == ("a", "2")
    assert slots.request("main", turn("b", "9"), ONE, 0.0) is not None
    assert slots.request("main", turn("a", "2"), ONE, 0.0) is None


def test_namespaces_take_turns() -> None:
    slots = Slots()
    slots.request("main", turn("z", "0"), ONE, 0.0)
    for name in "123":
        slots.request("main", turn("greedy", name), ONE, 0.0)
    slots.request("main", turn("modest", "1"), ONE, 0.0)

    assert served(slots, "z-0", 4) == [("greedy", "1"), ("modest", "1"), ("greedy", "2"), ("greedy", "3")]


def test_deletions_and_others_take_turns() -> None:
    slots = Slots()
    slots.request("main", turn("z", "0"), ONE, 0.0)
    for name in "12":
        slots.request("main", turn("a", name), ONE, 0.0)
        slots.request("main", turn("a", f"d{name}", deletes=True), ONE, 0.0)

    assert served(slots, "z-0", 4) == [("a", "d1"), ("a", "1"), ("a", "d2"), ("a", "2")]


def test_a_slot_that_was_not_taken_goes_to_the_next() -> None:
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)
    slots.request("main", turn("a", "2"), ONE, 0.0)
    slots.request("main", turn("a", "3"), ONE, 0.0)
    slots.release("main", "a-1")

    assert slots.settle(("a", "2")) == [("a", "3")]


def test_a_slot_that_is_kept_for_whoever_is_gone_goes_to_the_next() -> None:
    """Who was deleted while waiting has no endpoint any more, and asks for nothing."""
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)
    slots.request("main", turn("a", "deleted"), ONE, 0.0)
    slots.release("main", "a-1")

    assert slots.settle(("a", "deleted")) == []
    assert slots.request("main", turn("a", "2"), ONE, 0.0) is None


def test_a_slot_whose_operation_was_not_made_goes_to_the_next_when_its_key_has_been_handled() -> None:
    slots = Slots()
    slots.request("main", turn("a", "1"), ONE, 0.0)
    slots.request("main", turn("a", "2"), ONE, 0.0)
    slots.give_back("main", turn("a", "1"))

    assert slots.settle(("a", "1")) == [("a", "2")]
    assert slots.request("main", turn("a", "2"), ONE, 0.0) is None


def test_a_start_that_did_not_come_about_is_none_of_the_minute() -> None:
    slots, limits = Slots(), Limits(jobs=9, per_minute=1)
    slots.request("main", turn("a", "1"), limits, 0.0)
    slots.give_back("main", turn("a", "1"))

    assert slots.request("main", turn("a", "1"), limits, 1.0) is None


def test_a_minute_bears_as_many_starts_as_the_endpoint_says() -> None:
    slots, limits = Slots(), Limits(jobs=9, per_minute=2)
    slots.request("main", turn("a", "1"), limits, 0.0)
    slots.request("main", turn("a", "2"), limits, 10.0)

    assert slots.request("main", turn("a", "3"), limits, 20.0) == 40.0
    assert slots.request("main", turn("a", "3"), limits, WINDOW) is None


def served(slots: Slots, running: str, count: int) -> list[Key]:
    """Whose turn comes, as each in turn takes its slot and ends."""
    order = []
    for _ in range(count):
        key = slots.release("main", running)
        assert key is not None
        order.append(key)
        running = "-".join(key)
        assert slots.request("main", Turn(key, running, deletes=key[1].startswith("d")), ONE, 0.0) is None
    return order


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=60), st.integers(1, 4))
def test_never_more_than_the_limit_and_nobody_is_forgotten(wishes: list[tuple[str, int, bool]], jobs: int) -> None:
    slots, limits = Slots(), Limits(jobs)
    running: set[str] = set()
    waiting: dict[Key, Turn] = {}
    for namespace, number, deletes in wishes:
        wish = turn(namespace, str(number), deletes=deletes)
        if wish.operation in running or wish.key in waiting:
            continue
        if slots.request("main", wish, limits, 0.0) is None:
            running.add(wish.operation)
        else:
            waiting[wish.key] = wish
        assert len(running) <= jobs
    while running:
        ended = running.pop()
        key = slots.release("main", ended)
        if key is not None:
            wish = waiting.pop(key)
            assert slots.request("main", wish, limits, 0.0) is None
            running.add(wish.operation)
        assert len(running) <= jobs

    assert not waiting
