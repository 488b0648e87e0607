"""What an ending's sentence shows."""

from __future__ import annotations

import pytest

from provisioner_job.redaction import Redactor
from provisioner_job.reporting import ENDING_CHARACTERS, shown

SECRET = "two  spaces and\ta tab"


@pytest.mark.parametrize("before", range(ENDING_CHARACTERS - 40, ENDING_CHARACTERS + 1))
def test_no_cut_goes_through_a_secret(before: int) -> None:
    redactor = Redactor()
    redactor.add(SECRET)

    sentence = shown("x" * before + SECRET + "y" * 100, redactor)

    assert set(sentence) <= set("x*y…")
    assert len(sentence) <= ENDING_CHARACTERS


def test_a_secret_is_found_before_its_spaces_are_put_in_order() -> None:
    redactor = Redactor()
    redactor.add(SECRET)

    assert shown(f"wrong:\n  {SECRET}\n", redactor) == "wrong: ***"
