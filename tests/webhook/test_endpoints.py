"""What can be wrong with a DatabaseEndpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers.pki import Authority
from tests.webhook.builders import WorldOf, claimed, database, endpoint
from tests.webhook.verdicts import faults, judged


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def on_tls(**tls: Any) -> dict[str, Any]:
    return endpoint(tls=tls)


def test_an_endpoint_with_a_private_authority_is_created(authority: Authority) -> None:
    verdict = judged("CREATE", on_tls(caBundle=authority.pem))

    assert verdict.allowed
    assert verdict.warnings == ()


def test_clear_text_is_refused_unless_the_installation_allows_it() -> None:
    assert "allowInsecureEndpoints" in faults(judged("CREATE", on_tls(mode="Disabled")))["spec.tls.mode"]
    assert judged("CREATE", on_tls(mode="Disabled"), allow_insecure=True).allowed


def test_an_endpoint_that_was_allowed_before_stays_until_it_is_changed() -> None:
    old = on_tls(mode="Disabled")
    labelled = {**old, "metadata": {"name": "pg", "labels": {"a": "b"}}}

    assert judged("UPDATE", labelled, old).allowed
    assert not judged("UPDATE", old, endpoint()).allowed


def test_fields_that_would_not_act_are_refused() -> None:
    disabled = on_tls(mode="Disabled", serverName="a.example", clientCertificateSecretRef={"name": "c"})

    assert sorted(faults(judged("CREATE", disabled, allow_insecure=True))) == [
        "spec.tls.clientCertificateSecretRef",
        "spec.tls.serverName",
    ]
    assert list(faults(judged("CREATE", on_tls(mode="VerifyCA", serverName="a.example")))) == ["spec.tls.serverName"]


def test_a_bundle_must_be_certificates_of_an_authority(authority: Authority, tmp_path: Path) -> None:
    leaf = authority.issue("leaf", ["pg.example.test"])
    broken = "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"
    bundles = {
        "has no certificate of an authority": leaf.certificate.read_text(),
        "is not certificates in PEM": broken,
        "contains a private key": authority.pem + leaf.key.read_text(),
    }

    for sentence, bundle in bundles.items():
        assert sentence in faults(judged("CREATE", on_tls(caBundle=bundle)))["spec.tls.caBundle"]
    assert judged("CREATE", on_tls(caBundle=leaf.certificate.read_text() + authority.pem)).allowed


@pytest.mark.parametrize("host", ["/var/run/postgresql", "a b", "db:5432", "https://db"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert list(faults(judged("CREATE", endpoint(host=host)))) == ["spec.host"]


def test_a_class_that_is_not_there_yet_is_warned_of() -> None:
    verdict = judged("CREATE", endpoint(), world=WorldOf(_classes=[]))

    assert verdict.allowed
    assert "there is no DatabaseClass standard yet" in verdict.warnings[0]


def test_an_endpoint_in_use_is_not_deleted() -> None:
    world = WorldOf(_databases=[database("b"), database("a")], _instances=[claimed("db-x", "shop", "a")])

    found = faults(judged("DELETE", endpoint(), world=world))

    assert found["metadata.name"] == (
        "is in use by Database shop/a, Database shop/b, DatabaseInstance db-x; delete what uses it first"
    )
    assert judged("DELETE", endpoint("unused"), world=world).allowed
