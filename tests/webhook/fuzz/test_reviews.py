"""Mutated AdmissionReviews: a well-formed answer or 400, and what is forbidden stays forbidden however written."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.webhook.builders import WorldOf, database, database_class, endpoint, policy, review
from webhook.app import Dependencies, create_app
from webhook.judgement import Judge
from webhook.metrics import Metrics

Json = dict[str, Any]
FORBIDDEN = [
    review("CREATE", database(endpoint="nowhere")),
    review("CREATE", database(params={"size": "huge"})),
    review("UPDATE", database(params={"size": "large"}), database(params={"size": "small"})),
    review("DELETE", database(deletionProtection=True)),
    review("CREATE", database_class(identity="same")),
    review("CREATE", endpoint(tls={"mode": "Disabled"})),
    review("CREATE", database(endpoint="gold")),
    review("CREATE", database("a-gold", endpoint="gold", rotation={"every": "25h"})),
    review("CREATE", database("a-gold", endpoint="gold", rotation={"every": "1h"}), groups=["interns"]),
    review(
        "UPDATE",
        database("a-gold", endpoint="gold", rotation={"every": "25h"}),
        database("a-gold", endpoint="gold", rotation={"every": "24h"}),
    ),
    review("DELETE", database("a-gold", endpoint="gold")),
    review("CREATE", policy(validations=[{"expression": "1 +"}])),
]
GOLD = {"endpoints": ["gold"]}
POLICIES = [
    policy("name", match=GOLD, validations=[{"expression": "object.metadata.name.endsWith('-gold')"}]),
    policy("age", match=GOLD, rotation={"maxAge": "24h"}),
    policy("who", match={**GOLD, "groups": ["interns"]}, quota={"perNamespace": 0}),
    policy("care", match=GOLD, deletionProtection="RequireConfirmation"),
]
PATHS = ("/validate", "/mutate")


def serving() -> FlaskClient:
    classes = [database_class(params={"size": {"enum": ["small", "large"], "default": "small"}})]
    world = WorldOf(_classes=classes, _endpoints=[endpoint(), endpoint("gold")], _policies=POLICIES)
    return create_app(Dependencies(Judge(world), Metrics(), lambda: "")).test_client()


def rewritten(asked: Json, chance: random.Random) -> bytes:
    """The same review in other words: order, spaces, escapes, dry run, options, fields that nobody knows."""
    whole = json.loads(json.dumps(asked))
    whole["request"] |= {"dryRun": chance.random() < 0.5, f"x{chance.randrange(9)}": chance.choice([None, 1, [], {}])}
    whole["request"]["options"] = chance.choice([None, {}, {"kind": "PatchOptions", "force": True}])
    text = json.dumps(shuffled(whole, chance), indent=chance.choice([None, 0, 3]))
    if chance.random() < 0.5:
        letter = chance.choice("aeinost")
        text = text.replace(letter, f"\\u{ord(letter):04x}") if letter not in "nt" or "\\" not in text else text
    # true, false and null are words, not texts: what breaks them is no JSON, and gets 400.
    return text.encode()


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(element, chance) for element in value]
    if not isinstance(value, dict):
        return value
    keys = chance.sample(sorted(value), len(value))
    return {key: shuffled(value[key], chance) for key in keys}


def broken(asked: Json, chance: random.Random) -> bytes:
    """A review with some bytes changed, cut, repeated or moved."""
    text = bytearray(json.dumps(asked).encode())
    for _ in range(chance.randrange(1, 4)):
        at, length = chance.randrange(len(text)), chance.randrange(1, 30)
        piece = text[at : at + length]
        match chance.randrange(4):
            case 0:
                text[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del text[at : at + length]
                text = text or bytearray(b" ")
            case 2:
                text[at:at] = piece
            case _:
                other = chance.randrange(len(text))
                text[other : other + length] = piece
    return bytes(text)


def twice(asked: Json, chance: random.Random) -> bytes:
    """A review in which some object has a key twice, first or last with a harmless value."""
    text = json.dumps(asked)
    key = chance.choice(["object", "spec", "operation", "oldObject", "uid"])
    first, found, rest = text.partition(f'"{key}": ')
    if not found:
        first, found, rest = text.partition('"request": ')
    return f"{first}{found}null, {found}{rest}".encode()


def attack(client: FlaskClient, chance: random.Random, count: int) -> None:
    """Send `count` reviews and judge each answer."""
    judged = 0
    for number in range(count):
        asked = FORBIDDEN[number % len(FORBIDDEN)]
        way = (rewritten, broken, twice)[number // len(FORBIDDEN) % 3]
        body = way(asked, chance)
        path = "/validate" if way is not broken else chance.choice(PATHS)

        answer = client.post(path, data=body, content_type="application/json")

        assert answer.status_code in (200, 400), (answer.status_code, body)
        assert way is not twice or answer.status_code == 400, body
        if answer.status_code == 200:
            response = answer.get_json()["response"]
            assert isinstance(response["allowed"], bool), body
            assert response["allowed"] or response["status"]["code"] in (422, 503), body
            assert way is not rewritten or not response["allowed"], body
            judged += way is rewritten

    assert judged > count / 10


def test_a_share_of_the_mutated_reviews(chance: random.Random) -> None:
    attack(serving(), chance, 3_000)


@pytest.mark.soak
def test_all_mutated_reviews(chance: random.Random) -> None:
    attack(serving(), chance, 100_000)
