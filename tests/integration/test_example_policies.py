"""The policies in examples/policies/ through a real API server: what kubectl prints of their refused files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.resources import DATABASES
from tests.chart.apiserver import running_api_server
from tests.docs.pages import ROOT
from tests.docs.test_policies import FOLDER, LANDSCAPE, NAMES
from tests.integration.test_webhook_admission import Kubectl, wait_until_called
from tests.integration.test_webhook_policies import golden
from tests.webhook.running import eventually, install, running_webhook

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with running_api_server() as server:
        install(server)
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            kubectl = Kubectl(server)
            done = kubectl("apply", "-f", LANDSCAPE)
            assert done.returncode == 0, done.stderr
            yield kubectl


def file(name: str) -> Path:
    """One of the folder's files."""
    return FOLDER / f"{name}.yaml"


def remove_databases(kubectl: Kubectl, name: str) -> None:
    """What a controller would do, and an administrator before it."""
    for manifest in yaml.safe_load_all(file(name).read_text()):
        metadata = manifest["metadata"]
        place = {"namespace": metadata["namespace"]}
        for patch in ({"spec": {"deletionProtection": False}}, None, {"metadata": {"finalizers": None}}):
            verb = ["delete", "--wait=false"] if patch is None else ["patch", "--type=merge", "-p", json.dumps(patch)]
            done = kubectl(*verb, DATABASES.plural, metadata["name"], **place)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_is_accepted_is_stored_and_what_is_refused_is_told_why(kubectl: Kubectl, name: str) -> None:
    applied = kubectl("apply", "-f", str(file(name)))
    policies = [manifest["metadata"]["name"] for manifest in yaml.safe_load_all(file(name).read_text())]
    said = [""]

    def refusals() -> int:
        # The webhook hears of policies and Databases a moment later.
        done = kubectl("apply", "--dry-run=server", "-f", str(file(f"{name}-refused")), namespace="")
        said[0] = done.stderr.replace(f"{ROOT}/", "")
        return said[0].count("is invalid")

    eventually(lambda: refusals() > 0, lambda: said[0])
    accepted = kubectl("apply", "-f", str(file(f"{name}-accepted")), namespace="")
    count = len([*yaml.safe_load_all(file(f"{name}-refused").read_text())])
    eventually(lambda: refusals() == count, lambda: said[0])
    kubectl("delete", "databasepolicy", *policies)
    remove_databases(kubectl, f"{name}-accepted")

    assert (applied.returncode, accepted.returncode) == (0, 0), applied.stderr + accepted.stderr
    golden(f"example-{name}", said[0])
