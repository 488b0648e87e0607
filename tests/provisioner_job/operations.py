"""Operations as the controller writes them, to vary in tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from api.operation import Call, DatabaseReference, OperationSpec, Owner, SecretTarget, Server, Text
from api.templates import Template


def text(name: str, template: str) -> Text:
    """A named template."""
    return Text(name, Template.parse(template))


def call(procedure: str, timeout: timedelta = timedelta(seconds=20), **arguments: str) -> Call:
    """A call with named arguments."""
    return Call(procedure, tuple(text(name, template) for name, template in arguments.items()), timeout)


TARGET = SecretTarget(
    name="orders-credentials",
    type="servicebinding.io/postgresql",
    format=None,
    credentials=("password",),
    owner=Owner("db-abcdefghijklmnopqrstuvwxyz", "77777777-8888-9999-0000-111111111111"),
)
SPEC = OperationSpec(
    type="create",
    sequence=1,
    attempt=1,
    database=DatabaseReference("shop", "orders", "11111111-2222-3333-4444-555555555555"),
    instance="db-abcdefghijklmnopqrstuvwxyz",
    instance_uid="66666666-7777-8888-9999-000000000000",
    identity="orders",
    class_name="postgres",
    driver="postgres",
    server=Server(endpoint="main", host="127.0.0.1", port=5432, database="postgres"),
    calls=(call("create_database", name="orders"),),
    secret=TARGET,
    requested_by="mary",
    basis="0",
)


def spec(**changes: Any) -> OperationSpec:
    """`SPEC` with other fields."""
    return SPEC._replace(**changes)


def target(*texts: Text, **changes: Any) -> SecretTarget:
    """`TARGET` with these keys; without any, every result key passes through."""
    return TARGET._replace(format=texts or None, **changes)
