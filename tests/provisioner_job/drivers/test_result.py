"""The two shapes of a result, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reasons import Reason
from provisioner_job.drivers.contract import Result
from provisioner_job.drivers.result import ResultSet, read_result
from provisioner_job.errors import Failure

TEXTS = st.text(min_size=1)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1))
def test_rows_of_keys_and_values_give_themselves_in_their_order(result: dict[str, str]) -> None:
    assert list(read_result(ResultSet(("Key", "VALUE"), [*result.items()])).items()) == [*result.items()]


@given(st.dictionaries(TEXTS.filter(lambda name: name.casefold() not in ("key", "value")), TEXTS, min_size=1))
def test_one_row_gives_its_columns(result: dict[str, str]) -> None:
    assert read_result(ResultSet([*result], [[*result.values()]])) == result


@given(st.lists(st.text(max_size=3), max_size=4), st.integers(0, 3), st.data())
def test_whatever_comes_is_either_a_result_or_a_refusal_without_values(
    columns: list[str], count: int, data: st.DataObject
) -> None:
    cell = st.sampled_from([None, "", "s3cret", "s3cret2"])
    rows = [[data.draw(cell) for _ in columns] for _ in range(count)]
    refusal: Failure | None = None
    result: Result = {}
    try:
        result = read_result(ResultSet(columns, rows))
    except Failure as failure:
        refusal = failure

    assert bool(result) is (refusal is None)
    assert all(isinstance(text, str) for text in [*result, *result.values()])
    if refusal is not None:
        assert refusal.reason is Reason.RESULT_INVALID
        assert "s3cret" not in refusal.message


@pytest.mark.parametrize(
    ("columns", "rows", "count"),
    [
        ((), (), None),
        (("key", "value"), (), None),
        (("a", "a"), (("x", "y"),), None),
        (("a", ""), (("x", "y"),), None),
        (("a",), (("x",), ("y",)), None),
        (("key", "value"), (("x", "y"),), 2),
        (("key", "value"), (("x", "1"), ("x", "1")), None),
    ],
)
def test_other_shapes_are_refused(
    columns: Sequence[str], rows: Sequence[Sequence[str | None]], count: int | None
) -> None:
    with pytest.raises(Failure) as caught:
        read_result(ResultSet(columns, rows, count))

    assert caught.value.reason is Reason.RESULT_INVALID


OUTPUTS = ResultSet(("password", "status"), [("fresh", "0")])


@pytest.mark.parametrize(
    ("rows", "joined"),
    [
        (ResultSet(("key", "value"), [("username", "u"), ("status", "rows'")]), {"username": "u"}),
        (ResultSet(("username", "host"), [("u", "h")]), {"username": "u", "host": "h"}),
        (ResultSet(("key", "value"), ()), {}),
        (ResultSet(("a",), [("looked at",), ("on the way",)]), {}),
        (ResultSet(("", "a"), [("no", "names")]), {}),
        (ResultSet(), {}),
    ],
)
def test_out_parameters_join_the_rows_whichever_holds_the_password(rows: ResultSet, joined: dict[str, str]) -> None:
    assert read_result(rows, OUTPUTS) == {**joined, "password": "fresh", "status": "0"}


def test_rows_of_keys_and_values_that_cannot_be_read_are_not_left_out_beside_out_parameters() -> None:
    with pytest.raises(Failure) as caught:
        read_result(ResultSet(("key", "value"), [("password", "a"), ("password", "b")]), OUTPUTS)

    assert caught.value.reason is Reason.RESULT_INVALID


@pytest.mark.parametrize("nothing", [ResultSet(), ResultSet(("key", "value")), ResultSet(("a",), (), 0)])
def test_what_may_be_silent_may_return_nothing_or_no_row(nothing: ResultSet) -> None:
    assert read_result(nothing, silent=True) == {}


def test_what_may_be_silent_and_is_not_is_read_as_ever() -> None:
    assert read_result(ResultSet(("password",), [("p",)]), silent=True) == {"password": "p"}
    with pytest.raises(Failure):
        read_result(ResultSet(("a",), [("x",), ("y",)]), silent=True)
