"""Smaller parts: settings, retention, endpoints, certificates, declarations, manifests."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from api.reasons import Reason
from controller.certificates import CERTIFICATE_LIFE, due, new_authority, new_certificate, serves
from controller.declared import DeclaredError, declared_objects
from controller.endpoints import Findings, endpoint_faults, endpoint_status
from controller.ledger import Entry
from controller.manifests import job_manifest, role_binding_manifest, role_manifest
from controller.request import Asked, Request, operation_spec
from controller.retention import Retention
from controller.settings import JobTemplate, Settings
from controller.status import changed, desired_status, ready, stalled, working
from kube.environment import SettingsError
from tests.controller.builders import (
    NOW,
    OPERATOR,
    account_secret,
    database,
    database_class,
    endpoint,
    instance,
    observed,
    operation,
    reported,
)

ENVIRONMENT = {
    "DBAAS_NAMESPACE": OPERATOR,
    "DBAAS_RELEASE": "dbaas",
    "DBAAS_POD_NAME": "dbaas-controller-0",
    "DBAAS_JOB_IMAGE": "job:1",
    "DBAAS_JOB_TEMPLATE": json.dumps({"imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"disk": "ssd"}}),
    "DBAAS_WEBHOOK_SERVICE": "dbaas-webhook",
    "DBAAS_WEBHOOK_CONFIGURATION": "dbaas",
    "DBAAS_WEBHOOK_CA_SECRET": "dbaas-webhook-ca",
    "DBAAS_WEBHOOK_TLS_SECRET": "dbaas-webhook-tls",
}


def create_operation(**secret: Any) -> Entry:
    target = Request(database(), endpoint(), database_class()).secret(instance())._replace(**secret)
    return operation(operation_spec(observed(instance=instance()), instance(), Asked("create"), target))


class TestSettings:
    def test_the_environment_of_the_chart_is_understood(self) -> None:
        settings = Settings.from_env(ENVIRONMENT)

        assert settings.job == JobTemplate("job:1", image_pull_secrets=("registry",), node_selector={"disk": "ssd"})
        assert settings.keep_operations == timedelta(days=90)
        assert settings.watch_namespaces == ()

    def test_everything_that_is_wrong_is_named_at_once(self) -> None:
        wrong = {
            "DBAAS_NAMESPACE": "A_B",
            "DBAAS_LOG_LEVEL": "loud",
            "DBAAS_WATCH_NAMESPACES": "shop,A_B",
            "DBAAS_JOB_TEMPLATE": "[",
            "DBAAS_CERTIFICATES": "perhaps",
            "DBAAS_KEEP_OPERATIONS_DAYS": "-1",
            "DBAAS_ALLOW_INSECURE_ENDPOINTS": "perhaps",
            "DBAAS_METRICS_PORT": "70000",
        }
        environment = {**ENVIRONMENT, **wrong}
        del environment["DBAAS_RELEASE"]

        with pytest.raises(SettingsError) as raised:
            Settings.from_env(environment)

        for variable in (*wrong, "DBAAS_RELEASE"):
            assert f"{variable}: " in str(raised.value)


class TestRetention:
    def test_old_operations_go_and_the_last_few_stay(self) -> None:
        ages = [timedelta(days=days) for days in (200, 150, 100, 50)]
        entries = [
            replace(reported(create_operation(), at=NOW - age), sequence=number) for number, age in enumerate(ages)
        ]

        gone = Retention(timedelta(days=90), least=2).expired(entries, NOW)

        assert [entry.sequence for entry in gone] == [0, 1]

    def test_what_runs_is_never_forgotten(self) -> None:
        assert not Retention(timedelta(0), least=0).expired([create_operation()], NOW)


class TestEndpoints:
    def test_an_endpoint_with_its_class_and_its_secret_is_ready(self) -> None:
        faults = endpoint_faults(endpoint(), database_class(), {"main-account": account_secret()}, allow_insecure=False)
        status = endpoint_status(endpoint(), Findings((), None), NOW)

        assert faults == []
        assert status is not None
        assert status["conditions"][0]["status"] == "True"

    @pytest.mark.parametrize(
        ("secrets", "words"),
        [
            ({"main-account": None}, "does not exist"),
            ({"main-account": account_secret(other="label")}, "endpoint-credentials"),
            ({"main-account": replace(account_secret(), keys=frozenset({"username"}))}, "'password'"),
        ],
    )
    def test_what_is_wrong_with_its_secret_is_said_with_the_cure(self, secrets: Any, words: str) -> None:
        faults = endpoint_faults(endpoint(), database_class(), secrets, allow_insecure=False)

        assert len(faults) == 1
        assert words in faults[0]

    def test_clear_text_needs_the_administrators_word(self) -> None:
        plain = endpoint(tls={"mode": "Disabled"})
        secrets = {"main-account": account_secret()}

        assert endpoint_faults(plain, database_class(), secrets, allow_insecure=False)
        assert not endpoint_faults(plain, database_class(), secrets, allow_insecure=True)

    def test_a_status_that_says_so_already_is_not_written(self) -> None:
        status = endpoint_status(endpoint(), Findings((), None), NOW)
        told = replace(endpoint(), status=status or {})

        assert endpoint_status(told, Findings((), None), NOW + timedelta(hours=1)) is None


class TestCertificates:
    NAMES = ("dbaas-webhook.dbaas-system.svc", "dbaas-webhook.dbaas-system.svc.cluster.local")

    def test_a_certificate_serves_its_names_under_its_authority(self) -> None:
        authority = new_authority("test", NOW)
        pair = new_certificate(authority, list(self.NAMES), NOW)

        assert serves(pair, authority, list(self.NAMES))
        assert not serves(pair, authority, ["elsewhere.svc"])
        assert not serves(pair, new_authority("test", NOW), list(self.NAMES))

    def test_it_is_renewed_after_two_thirds_of_its_life(self) -> None:
        certificate = new_certificate(new_authority("test", NOW), list(self.NAMES), NOW).parsed

        assert not due(certificate, NOW)
        assert due(certificate, NOW + CERTIFICATE_LIFE * 0.7)

    def test_the_authority_can_sign_leaves_only(self) -> None:
        constraints = new_authority("test", NOW).parsed.extensions.get_extension_for_class(x509.BasicConstraints)

        assert constraints.critical
        assert constraints.value.path_length == 0


class TestDeclared:
    def test_a_dsn_becomes_an_endpoint_and_its_secret(self) -> None:
        dsn = "postgres://op:p%40ss@db.example.test:5433/admin"
        document = {
            "classes": {"postgres": {"driver": "postgres"}},
            "dbms": [{"databaseClassName": "postgres", "endpoints": [{"name": "main", "dsn": dsn}]}],
            "policies": {"small": {"quota": {"perNamespace": 5}}},
        }

        objects = declared_objects(document, OPERATOR)

        kinds = ["DatabaseClass", "Secret", "DatabaseEndpoint", "DatabasePolicy"]
        assert [resource.kind for resource, _ in objects] == kinds
        assert objects[3][1] == {"metadata": {"name": "small"}, "spec": {"quota": {"perNamespace": 5}}}
        assert objects[1][1]["stringData"] == {"username": "op", "password": "p@ss"}

    def test_a_wrong_dsn_is_named_without_its_password(self) -> None:
        document = {
            "dbms": [
                {
                    "databaseClassName": "postgres",
                    "endpoints": [{"name": "main", "dsn": "postgres://op:hunter2@db/x?sslmode=disable"}],
                }
            ]
        }

        with pytest.raises(DeclaredError, match="'main'") as raised:
            declared_objects(document, OPERATOR)

        assert "hunter2" not in str(raised.value)


class TestManifests:
    def test_a_jobs_rights_are_one_secret_by_name(self) -> None:
        entry = create_operation()

        assert role_manifest(entry)["rules"] == [
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": ["shop-credentials"],
                "verbs": ["create", "get", "patch"],
            }
        ]
        assert role_binding_manifest(entry, OPERATOR)["subjects"] == [
            {"kind": "ServiceAccount", "name": entry.name, "namespace": OPERATOR}
        ]

    def test_a_job_carries_no_secret_in_its_environment_and_is_never_restarted(self) -> None:
        manifest = job_manifest(create_operation(), endpoint(), OPERATOR, JobTemplate("job:1"))
        pod = manifest["spec"]["template"]["spec"]

        assert manifest["spec"]["backoffLimit"] == 0
        assert pod["restartPolicy"] == "Never"
        assert {variable["name"] for variable in pod["containers"][0]["env"]} == {"DBAAS_OPERATION", "DBAAS_NAMESPACE"}
        assert pod["securityContext"]["runAsNonRoot"]

    def test_only_a_client_certificate_makes_a_pod_wait_for_a_group_of_its_files(self) -> None:
        certified = replace(endpoint(), tls=replace(endpoint().tls, client_certificate_secret="client"))

        plain, grouped = (
            job_manifest(create_operation(), each, OPERATOR, JobTemplate("job:1"))["spec"]["template"]["spec"]
            for each in (endpoint(), certified)
        )

        assert [pod["securityContext"].get("fsGroup") for pod in (plain, grouped)] == [None, 65532]
        assert [pod["volumes"][0]["projected"]["defaultMode"] for pod in (plain, grouped)] == [0o444, 0o440]


class TestStatus:
    def test_ready_is_alone_when_all_is_well(self) -> None:
        status = desired_status(observed(), database(), ready(None), NOW)

        assert [condition["type"] for condition in status["conditions"]] == ["Ready"]

    def test_reconciling_and_stalled_are_there_only_when_true(self) -> None:
        busy = desired_status(observed(), database(), working("Provisioning", "busy"), NOW)["conditions"]
        stuck = desired_status(observed(), database(), stalled(Reason.PROCEDURE_MISSING, "stuck"), NOW)["conditions"]

        assert [(c["type"], c["status"]) for c in busy] == [("Ready", "False"), ("Reconciling", "True")]
        assert [(c["type"], c["status"]) for c in stuck] == [("Ready", "False"), ("Stalled", "True")]

    def test_a_condition_keeps_the_time_of_its_last_change(self) -> None:
        before = desired_status(observed(), database(), ready(None), NOW)
        told = replace(database(), status=before)

        after = desired_status(observed(), told, ready(None), NOW + timedelta(hours=1))

        assert not changed(before, after)

    def test_a_new_operation_takes_the_words_of_the_last_one_away(self) -> None:
        failed = reported(create_operation(), Reason.PROCEDURE_FAILED)
        before = desired_status(observed(), database(), working("x", "y", entry=failed), NOW)
        running = create_operation()

        after = desired_status(observed(), database(), working("x", "y", entry=running), NOW)

        assert before["lastOperation"]["reason"] == "ProcedureFailed"
        assert after["lastOperation"]["reason"] is None
