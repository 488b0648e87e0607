"""Which names servers confuse, and the instance name that follows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.engines import ENGINES, Driver, Engine
from api.identity import cut, instance_name, length, normalise, normalise_host, too_long

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

engines = st.sampled_from(list(ENGINES.values()))
ports = st.integers(1, 65535)


@given(st.text())
def test_normalising_twice_changes_nothing(identity: str) -> None:
    assert normalise(normalise(identity)) == normalise(identity)


@given(st.text(), st.integers(0, 3))
def test_case_and_trailing_spaces_do_not_tell_names_apart(identity: str, spaces: int) -> None:
    expected = normalise(identity)

    assert normalise(identity.upper() + " " * spaces) == normalise(identity.upper())
    assert normalise(identity.lower()) == expected or "İ" in identity
    assert normalise(identity + " " * spaces) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Shop", "shop"),
        ("café", "CAFE"),
        ("cafe\u0301", "café"),
        ("shop ", "shop"),
        ("shop\u00a0", "shop"),
        ("ｓｈｏｐ", "shop"),
        ("straße", "STRASSE"),
        ("ﬁle", "file"),
        ("İstanbul", "istanbul"),
        ("ıstanbul", "ISTANBUL"),
        ("sh\u200bop", "shop"),
        ("shop\ufe0f", "shop"),
        ("Σίσυφος", "σισυφοσ"),
    ],
)
def test_names_that_a_server_may_confuse_are_one(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"), [("shop", "shops"), (" shop", "shop"), ("a-b", "a_b"), ("a.b", "ab"), ("字", "子"), ("🐘", "🐬")]
)
def test_names_that_no_server_confuses_stay_two(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    ("driver", "name", "long"),
    [
        (Driver.POSTGRES, "a" * 63, False),
        (Driver.POSTGRES, "a" * 64, True),
        (Driver.POSTGRES, "ä" * 32, True),
        (Driver.MARIADB, "ä" * 64, False),
        (Driver.MARIADB, "ä" * 65, True),
        (Driver.SQLSERVER, "🐘" * 64, False),
        (Driver.SQLSERVER, "🐘" * 65, True),
    ],
)
def test_each_engine_counts_in_its_own_units(driver: Driver, name: str, *, long: bool) -> None:
    assert too_long(name, ENGINES[driver]) is long


@given(st.text(max_size=200), engines)
def test_a_cut_name_fits_and_is_the_beginning_of_the_whole(name: str, engine: Engine) -> None:
    short = cut(name, engine)

    assert name.startswith(short)
    assert length(short, engine) <= engine.identifier_limit
    assert too_long(name, engine) or short == name


@given(st.text(), st.text(), ports)
def test_an_instance_name_is_a_dns_label_and_stays_the_same(host: str, identity: str, port: int) -> None:
    name = instance_name("postgresql", host, port, identity)

    assert DNS_LABEL.fullmatch(name)
    assert len(name) == 29
    assert name == instance_name("postgresql", host, port, normalise(identity))


def test_the_instance_names_of_a_release_are_those_of_the_next() -> None:
    """A change here orphans every DatabaseInstance there is."""
    assert instance_name("postgresql", "db.example.org", 5432, "team-a/shop") == "db-frjhhsukybwcfd5wzhvd4h6ij5"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("db.example.org", "DB.Example.Org."),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.1."),
    ],
)
def test_spellings_of_one_host_are_one_server(one: str, other: str) -> None:
    assert normalise_host(one) == normalise_host(other)


def test_another_server_is_another_instance() -> None:
    names = {
        instance_name(family, host, port, identity)
        for family in ("postgresql", "mysql")
        for host in ("a", "b")
        for port in (1, 2)
        for identity in ("x", "y", "1x")
    }

    assert len(names) == 24
