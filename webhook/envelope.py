"""The shape of an AdmissionReview, and of what the API server vouches for in the objects that it carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from api.kinds import parse_time

REVIEW_VERSION = "admission.k8s.io/v1"


class _KindSchema(Schema):
    group = fields.String(required=True)
    version = fields.String(required=True)
    kind = fields.String(required=True)


class _UserSchema(Schema):
    username = fields.String(load_default="")
    groups = fields.List(fields.String(), allow_none=True, load_default=())


def _is_time(text: str) -> None:
    try:
        parse_time(text)
    except ValueError:
        raise ValidationError("Not a valid datetime.") from None


class _MetadataSchema(Schema):
    """Of an object: what the API server vouches for, and reading relies on."""

    name = fields.String(allow_none=True)
    namespace = fields.String(allow_none=True)
    uid = fields.String(allow_none=True)
    generation = fields.Integer(strict=True, allow_none=True)
    resourceVersion = fields.String(allow_none=True)  # noqa: N815 - the API's own names
    creationTimestamp = fields.String(allow_none=True, validate=_is_time)  # noqa: N815
    deletionTimestamp = fields.String(allow_none=True, validate=_is_time)  # noqa: N815
    labels = fields.Dict(keys=fields.String(), values=fields.String(), allow_none=True)
    annotations = fields.Dict(keys=fields.String(), values=fields.String(), allow_none=True)
    finalizers = fields.List(fields.String(), allow_none=True)


class _ObjectSchema(Schema):
    metadata = fields.Nested(_MetadataSchema, required=True, unknown=EXCLUDE)


def _is_object(manifest: Mapping[str, Any]) -> None:
    if faults := _OBJECT.validate(manifest):
        raise ValidationError(faults)


class _RequestSchema(Schema):
    uid = fields.String(required=True, validate=validate.Length(min=1))
    kind = fields.Nested(_KindSchema, required=True, unknown=EXCLUDE)
    operation = fields.String(required=True, validate=validate.OneOf(("CREATE", "UPDATE", "DELETE", "CONNECT")))
    name = fields.String(load_default="")
    namespace = fields.String(load_default="")
    userInfo = fields.Nested(_UserSchema, required=True, unknown=EXCLUDE)  # noqa: N815 - the API's own names
    # Kept whole, as they came.
    object = fields.Raw(allow_none=True, load_default=None, validate=_is_object)
    oldObject = fields.Raw(allow_none=True, load_default=None, validate=_is_object)  # noqa: N815
    dryRun = fields.Boolean(allow_none=True, load_default=False)  # noqa: N815


class _ReviewSchema(Schema):
    apiVersion = fields.String(required=True, validate=validate.Equal(REVIEW_VERSION))  # noqa: N815
    kind = fields.String(required=True, validate=validate.Equal("AdmissionReview"))
    request = fields.Nested(_RequestSchema, required=True, unknown=EXCLUDE)


_OBJECT = _ObjectSchema(unknown=EXCLUDE)
REVIEW: Schema = _ReviewSchema(unknown=EXCLUDE)
"""Loads a request body; raises marshmallow's ValidationError."""
