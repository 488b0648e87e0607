"""What users write in spec.params: it arrives unchanged, or is refused with every reason at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.e2e.scene import CLASS, IDENTITY, Applied, Scene

TYPED = {
    "k8sName": IDENTITY,
    "number": "{{ .Params.number }}",
    "day": "{{ .Params.day }}",
    "settings": "{{ .Params.settings }}",
    "wanted": "{{ .Params.wanted }}",
}
CONSTANT = {"k8sName": IDENTITY, "number": "1", "day": "2026-01-01", "settings": "[]", "wanted": "no"}
VALUES = {"number": "42", "day": "2026-12-31", "settings": '{"a": [1, "ü", null], "b": {}}', "wanted": "true"}
TEXTS = {
    "quotes": "it's a \"quoted\" `text` with $$dollars$$ and $tag$ and %s and %(x)s and \\ and \\'",
    "injection": "x'); DROP TABLE e2e.effects; --",
    "semicolons": ";;;",
    "lines": "one\ntwo\r\nthree\ttabbed\n",
    "spaces": "  leading and trailing  ",
    "template": "{{ .Metadata.name }} {{ .Result.password }} {{ nonsense }} }} {{",
    "emoji": "🐘 👩‍👩‍👧 ¡ñandú! 北京 \u0301\u200d\ufeff",
    "long": "x" * 9_999 + "🐘",
    "empty": "",
    "flags": "--help",
    "nothing": "null",
}


def typed_class(scene: Scene, *, inputs: Mapping[str, str] | None = None, **spec: Any) -> str:
    """A class of `e2e.create_typed`, and an endpoint of it; gives the endpoint's name."""
    create = {"name": "e2e.create_typed", "inputs": inputs or TYPED}
    operations = {**CLASS["operations"], "create": create}
    cls = scene.add_class("typed", operations=operations, identity=IDENTITY, **spec)
    return scene.add_endpoint("typed", className=cls)


def test_every_text_arrives_unchanged_in_the_procedure_and_in_the_secret(scene: Scene) -> None:
    endpoint = typed_class(
        scene,
        inputs={**CONSTANT, "note": "{{ .Params.note }}"},
        secretFormat={"note": "<{{ .Result.echo }}>", "password": "{{ .Result.password }}"},
    )
    scene.change_endpoint("typed", maxConcurrentJobs=len(TEXTS))
    applied = {name: scene.apply(name, endpoint=endpoint, params={"note": text}) for name, text in TEXTS.items()}
    written = {name: database.wait_ready() for name, database in applied.items()}

    assert {name: database.effects[0].arguments["note"] for name, database in applied.items()} == TEXTS
    # An empty result means "unchanged": its key is left alone, and here there was nothing before.
    assert {name: secret.get("note", "<>") for name, secret in written.items()} == {
        name: f"<{text}>" for name, text in TEXTS.items()
    }


def test_integers_dates_json_and_booleans_go_in_and_come_out(scene: Scene) -> None:
    shop = scene.apply("shop", endpoint=typed_class(scene), params=VALUES)
    secret = shop.wait_ready()

    [effect] = shop.effects
    expected = {"number": 42, "day": "2026-12-31", "settings": json.loads(VALUES["settings"]), "wanted": True}
    assert {key: effect.arguments[key] for key in expected} == expected
    assert json.loads(secret.pop("same")) == expected["settings"]
    assert secret == {
        "password": f"pw-{shop.identity}",
        "doubled": "84",
        "next_day": "2027-01-01",
        "refused": "false",
        "echo": "",
        "nothing": "",
    }


def test_a_value_of_the_wrong_type_is_wrong_until_someone_changes_something(scene: Scene) -> None:
    endpoint = typed_class(scene)
    wrong = {"number": "many", "day": "2026-02-30", "settings": "{", "wanted": "perhaps"}
    applied = {
        name: scene.apply(name, endpoint=endpoint, params={**VALUES, name: value}) for name, value in wrong.items()
    }
    conditions = {name: database.wait_reason("ArgumentsInvalid") for name, database in applied.items()}

    assert all(f"argument {name} of " in condition["message"] for name, condition in conditions.items())
    assert all(database.condition("Stalled")["status"] == "True" for database in applied.values())
    assert all(database.effects == [] for database in applied.values())


def test_everything_that_is_wrong_is_told_in_one_refusal(scene: Scene) -> None:
    rules = {
        "number": {"pattern": "^[0-9]+$"},
        "day": {"maxLength": 10},
        "settings": {"default": "{}"},
        "wanted": {"enum": ["true", "false"]},
        "owner": {"description": "who pays"},
    }
    endpoint = typed_class(scene, params=rules)
    params = {"number": "42\n", "day": "2026-12-31T00:00:00Z", "wanted": "perhaps", "colour": "red"}
    said = scene.cluster.kubectl_apply(
        scene.database_manifest("shop", endpoint=endpoint, params=params, deletionPolicy="Delete"), check=False
    )

    assert said.code == 1
    for name in ("number", "day", "wanted", "owner", "colour"):
        assert f"spec.params.{name}: " in said.err
    assert "spec.params.settings: " not in said.err
    assert scene.applied("shop").get() is None


def test_a_parameter_that_a_template_needs_is_asked_for_without_rules_too(scene: Scene) -> None:
    params = {name: value for name, value in VALUES.items() if name not in ("number", "day")}
    manifest = scene.database_manifest("shop", endpoint=typed_class(scene), params=params)
    said = scene.cluster.kubectl_apply(manifest, check=False)

    assert said.code == 1
    assert "spec.params.number: " in said.err
    assert "spec.params.day: " in said.err


def test_defaults_of_the_class_are_written_into_the_database(scene: Scene) -> None:
    """So that a later edit of the class does not change what the Database was made with."""
    rules = {name: {"required": True} for name in VALUES} | {"number": {"default": "7"}}
    params = {name: value for name, value in VALUES.items() if name != "number"}
    manifest = scene.database_manifest("shop", endpoint=typed_class(scene, params=rules), params=params)
    scene.cluster.kubectl_apply(manifest)
    shop: Applied = scene.applied("shop")

    assert shop.wait_ready()["doubled"] == "14"
    database = shop.get()
    assert database is not None
    assert database["spec"]["params"]["number"] == "7"
    assert scene.cluster.kubectl_apply(manifest).out.strip().endswith(("unchanged", "configured"))
    assert shop.get() == database
