"""What the API server would refuse in an object's metadata by itself."""

from __future__ import annotations

from typing import Any

import pytest

from webhook.metadata import metadata_faults

OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "shop"},
        {"name": "shop.v2", "namespace": "a"},
        {"generateName": "shop-"},
        {"name": "a", "labels": {"example.com/team": "", "x": "A_b.c"}, "annotations": {"note": "any\ntext"}},
        {"name": "a", "finalizers": ["dbaas.bedag.ch/database"], "uid": "u", "managedFields": []},
        {"name": "a", "labels": None, "annotations": None, "ownerReferences": None},
        {"name": "a", "ownerReferences": [{**OWNER, "controller": True}, {**OWNER, "blockOwnerDeletion": False}]},
    ],
)
def test_right_metadata_is_taken(metadata: dict[str, Any]) -> None:
    assert list(metadata_faults({"metadata": metadata}, namespaced=True)) == []


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        (None, "metadata"),
        ("shop", "metadata"),
        ({}, "metadata.name"),
        ({"name": "Shop"}, "metadata.name"),
        ({"name": "shop\n"}, "metadata.name"),
        ({"name": "ѕhop"}, "metadata.name"),
        ({"name": 5}, "metadata.name"),
        ({"name": "a" * 254}, "metadata.name"),
        ({"generateName": "Shop-"}, "metadata.generateName"),
        ({"generateName": 5}, "metadata.generateName"),
        ({"name": "a", "namespace": "A"}, "metadata.namespace"),
        ({"name": "a", "namespace": "n" * 64}, "metadata.namespace"),
        ({"name": "a", "lables": {}}, "metadata.lables"),
        ({"name": "a", "labels": {"team": 5}}, "metadata.labels[team]"),
        ({"name": "a", "labels": {"team": "a b"}}, "metadata.labels[team]"),
        ({"name": "a", "labels": {"a/b/c": "x"}}, "metadata.labels[a/b/c]"),
        ({"name": "a", "labels": ["team"]}, "metadata.labels"),
        ({"name": "a", "annotations": {"on": True}}, "metadata.annotations[on]"),
        ({"name": "a", "annotations": {"x": "y" * 262144}}, "metadata.annotations"),
        ({"name": "a", "finalizers": "x"}, "metadata.finalizers"),
        ({"name": "a", "finalizers": {}}, "metadata.finalizers"),
        ({"name": "a", "ownerReferences": {}}, "metadata.ownerReferences"),
        ({"name": "a", "ownerReferences": ["x"]}, "metadata.ownerReferences[0]"),
        ({"name": "a", "ownerReferences": [OWNER, {**OWNER, "uid": ""}]}, "metadata.ownerReferences[1].uid"),
        ({"name": "a", "ownerReferences": [{**OWNER, "kind": 5}]}, "metadata.ownerReferences[0].kind"),
        ({"name": "a", "ownerReferences": [{**OWNER, "controller": "yes"}]}, "metadata.ownerReferences[0].controller"),
        ({"name": "a", "ownerReferences": [{**OWNER, "namespace": "b"}]}, "metadata.ownerReferences[0].namespace"),
    ],
)
def test_each_fault_has_its_path(metadata: object, path: str) -> None:
    assert [fault.path for fault in metadata_faults({"metadata": metadata}, namespaced=True)] == [path]


def test_a_cluster_wide_object_is_in_no_namespace() -> None:
    (fault,) = metadata_faults({"metadata": {"name": "a", "namespace": "b"}}, namespaced=False)

    assert fault.path == "metadata.namespace"
