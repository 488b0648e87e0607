"""The queue: each key once, never twice at a time, failures later each time."""

from __future__ import annotations

import threading

from controller.queue import Queue


def taken(queue: Queue[str]) -> str | None:
    """What a worker gets, or None when nothing comes."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(queue.take()), daemon=True)
    thread.start()
    thread.join(10)
    if thread.is_alive():
        queue.close()
        thread.join()
    return found[0]


def test_a_key_added_twice_is_taken_once() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    queue.add("a")

    assert taken(queue) == "a"
    assert queue.depth() == 0


def test_keys_are_taken_in_the_order_in_which_they_came() -> None:
    queue: Queue[str] = Queue()
    for key in "abc":
        queue.add(key)

    assert [taken(queue) for _ in range(3)] == ["a", "b", "c"]


def test_a_key_added_while_it_is_handled_is_handled_once_more_afterwards() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    assert taken(queue) == "a"
    queue.add("a")
    assert queue.depth() == 0

    queue.done("a")

    assert taken(queue) == "a"


def test_a_failed_key_comes_back_by_itself() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    assert taken(queue) == "a"

    queue.failed("a")

    assert taken(queue) == "a"


def test_a_delayed_key_comes_when_it_is_due_and_the_earlier_date_counts() -> None:
    queue: Queue[str] = Queue()
    queue.add_after("a", 60.0)
    queue.add("b")
    assert taken(queue) == "b"
    assert queue.depth() == 0

    queue.add_after("a", 0.05)

    assert taken(queue) == "a"


def test_a_closed_queue_lets_its_workers_go() -> None:
    queue: Queue[str] = Queue()
    queue.close()

    assert queue.take() is None


def test_the_oldest_key_tells_how_far_behind_the_workers_are() -> None:
    queue: Queue[str] = Queue()
    assert queue.oldest() == 0.0

    queue.add("a")

    assert queue.oldest() >= 0.0
    assert queue.depth() == 1
