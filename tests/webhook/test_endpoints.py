"""What can be wrong with a DatabaseEndpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.servers.pki import Authority
from tests.webhook.builders import WorldOf, claimed, database, database_class, endpoint
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


TRUST: dict[str, Any] = {
    "caSecretRef": {"name": "ca"},
    "clientCertificateSecretRef": {"name": "client"},
    "serverName": "a.example",
    "minimumVersion": "1.3",
}


@pytest.mark.parametrize("field", sorted(TRUST))
def test_fields_that_would_not_act_are_refused(field: str) -> None:
    disabled = on_tls(mode="Disabled", **{field: TRUST[field]})

    assert list(faults(judged("CREATE", disabled, allow_insecure=True))) == [f"spec.tls.{field}"]
    assert judged("CREATE", on_tls(**{field: TRUST[field]})).allowed
    assert judged("CREATE", on_tls(mode="Disabled", minimumVersion="1.2"), allow_insecure=True).allowed


def test_a_name_that_nobody_checks_is_refused() -> None:
    unchecked = on_tls(mode="VerifyCA", caSecretRef={"name": "ca"}, serverName="a.example")

    assert list(faults(judged("CREATE", unchecked))) == ["spec.tls.serverName"]


def test_a_server_without_a_checked_name_is_warned_of_once() -> None:
    weak = on_tls(mode="VerifyCA", caSecretRef={"name": "ca"})

    (warning,) = judged("CREATE", weak).warnings

    assert warning.startswith("spec.tls.mode: VerifyCA does not check the server's name")
    assert len(warning) <= 120
    assert judged("UPDATE", weak, weak).warnings == ()


def test_without_a_name_and_without_an_authority_everybody_would_be_trusted() -> None:
    found = faults(judged("CREATE", on_tls(mode="VerifyCA"), allow_insecure=True))

    assert "set caSecretRef or caBundle" in found["spec.tls.mode"]


def test_two_authorities_are_one_too_many(authority: Authority) -> None:
    both = on_tls(caBundle=authority.pem, caSecretRef={"name": "ca"})

    assert list(faults(judged("CREATE", both))) == ["spec.tls"]


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


NO_HOSTS = ["/var/run/postgresql", "a b", "db:5432", "https://db", "", "db.", "-db", "db\n", "pg,other", "*.db"]
NO_ADDRESSES = [
    ":::::",
    "1::2::3",
    "12345",
    "10.1",
    "010.0.0.1",
    "256.1.1.1",
    "0x7f.0.0.1",
    "db.0x7f",
    "a" * 64 + ".db",
]


@pytest.mark.parametrize("host", NO_HOSTS + NO_ADDRESSES)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert {fault.path for fault in judged("CREATE", endpoint(host=host)).faults} == {"spec.host"}


@pytest.mark.parametrize(
    "host", ["db", "my_db.example.test", "10.0.0.1", "2001:db8::1", "db1", "1db", "xn--bcher-kva.ch"]
)
def test_a_right_host_is_taken(host: str) -> None:
    verdict = judged("CREATE", endpoint(host=host))

    assert (verdict.allowed, verdict.warnings) == (True, ())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "db.localhost"])
def test_a_host_that_is_the_jobs_own_pod_is_warned_of(host: str) -> None:
    (warning,) = judged("CREATE", endpoint(host=host)).warnings

    assert warning == f"spec.host: {host} is the Job's own Pod, not the node and not a server"


SECRETS: list[dict[str, Any]] = [
    {"credentialsSecretRef": {"name": "Pg_Admin"}},
    {"credentialsSecretRef": {"name": ""}},
    {"credentialsSecretRef": {"name": "a/b"}},
    {"credentialsSecretRef": {"name": "a", "namespace": "kube-system"}},
    {"credentialsSecretRef": {}},
    {"credentialsSecretRef": "pg-admin"},
    {"tls": {"caSecretRef": {"name": "../ca"}}},
    {"tls": {"clientCertificateSecretRef": {"name": "x" * 254}}},
]


@pytest.mark.parametrize("spec", SECRETS)
def test_a_reference_names_one_secret_of_the_operators_namespace(spec: dict[str, Any]) -> None:
    (path,) = {fault.path for fault in judged("CREATE", endpoint(**spec)).faults}

    assert re.match(r"spec\.(tls\.)?[a-zA-Z]+SecretRef", path)


@pytest.mark.parametrize(
    ("selector", "path"),
    [
        ({"matchLabels": {"team/": "x"}}, "matchLabels[team/]"),
        ({"matchLabels": {"team": "a b"}}, "matchLabels[team]"),
        ({"matchLabels": {"Example.com/team": "x"}}, "matchLabels[Example.com/team]"),
        ({"matchExpressions": [{"key": "a" * 64, "operator": "DoesNotExist"}]}, "matchExpressions[0]"),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod", "-"]}]}, "matchExpressions[0]"),
    ],
)
def test_a_selector_that_no_label_can_meet_is_refused(selector: dict[str, Any], path: str) -> None:
    """NotIn and DoesNotExist would open the endpoint to everybody."""
    manifest = endpoint(allowedNamespaces={"from": "Selector", "selector": selector})

    assert list(faults(judged("CREATE", manifest))) == [f"spec.allowedNamespaces.selector.{path}"]


def test_labels_that_there_can_be_are_selected() -> None:
    selector = {
        "matchLabels": {"example.com/team": "", "kubernetes.io/metadata.name": "shop"},
        "matchExpressions": [{"key": "env", "operator": "In", "values": ["prod", "A_b.c-d"]}],
    }

    assert judged("CREATE", endpoint(allowedNamespaces={"from": "Selector", "selector": selector})).allowed


def test_a_database_that_the_engine_could_not_name_is_refused() -> None:
    long = endpoint(database="d" * 64)

    assert faults(judged("CREATE", long)) == {"spec.database": "is 64 bytes long; postgres allows 63"}
    assert judged("CREATE", long, world=WorldOf(_classes=[database_class(driver="sqlserver")])).allowed
    assert judged("CREATE", long, world=WorldOf(_classes=[])).allowed
    assert judged("UPDATE", long, long).allowed


def test_an_endpoint_with_databases_stays_with_its_engine() -> None:
    classes = [database_class(), database_class("other-pg"), database_class("mssql", driver="sqlserver")]
    used = WorldOf(_classes=classes, _instances=[claimed("db-x", "shop", "orders")])

    refused = faults(judged("UPDATE", endpoint(className="mssql"), endpoint(), world=used))

    assert "DatabaseInstance db-x (claimed by shop/orders) of postgres exist" in refused["spec.className"]
    assert judged("UPDATE", endpoint(className="other-pg"), endpoint(), world=used).allowed
    assert judged("UPDATE", endpoint(className="mssql"), endpoint(), world=WorldOf(_classes=classes)).allowed


def test_a_server_that_is_exchanged_under_its_databases_is_warned_of() -> None:
    used = WorldOf(_instances=[claimed("db-x", "shop", "orders")])

    assert judged("UPDATE", endpoint(host="new.example.test"), endpoint(), world=used).warnings == (
        "spec.host: 1 database was made on the server before; the new one must have what is in use",
    )
    assert judged("UPDATE", endpoint(port=5433), endpoint(), world=used).warnings[0].startswith("spec.port: 1 ")
    assert judged("UPDATE", endpoint(host="new.example.test"), endpoint()).warnings == ()
    assert judged("UPDATE", endpoint(maxConcurrentJobs=9), endpoint(), world=used).warnings == ()


def test_a_class_that_is_not_there_yet_is_warned_of() -> None:
    verdict = judged("CREATE", endpoint(), world=WorldOf(_classes=[]))

    assert verdict.allowed
    assert "there is no DatabaseClass standard yet" in verdict.warnings[0]


def test_an_endpoint_in_use_is_not_deleted() -> None:
    """A Database and its own instance are one user; an instance that outlived its Database is another."""
    instances = [claimed("db-x", "shop", "a"), claimed("db-y", "shop", "gone")]
    world = WorldOf(_databases=[database("b"), database("a")], _instances=instances)

    found = faults(judged("DELETE", endpoint(), world=world))

    assert found["metadata.name"] == (
        "is in use by Database shop/a, Database shop/b, DatabaseInstance db-y (claimed by shop/gone); "
        "delete what uses it first"
    )
    assert judged("DELETE", endpoint("unused"), world=world).allowed
