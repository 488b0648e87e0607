"""Percent-encoding agrees with the standard library's, which every Job would otherwise import."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from api.percent import percent_encoded, query_encoded

data = st.binary(max_size=40) | st.text(max_size=20).map(str.encode) | st.just(bytes(range(256)))


@given(data)
def test_a_segment_of_a_path_is_encoded_as_everywhere(data: bytes) -> None:
    assert percent_encoded(data) == quote(data, safe="")
    assert percent_encoded(data, keep=b"/") == quote(data)


@given(data)
def test_a_value_of_a_query_has_a_plus_for_a_space(data: bytes) -> None:
    assert query_encoded(data) == quote_plus(data)
