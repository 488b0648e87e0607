"""An Operation's calls made ready: arguments bound, and the same arguments as the log may show them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from api.operation import Call, OperationSpec
from api.reasons import Reason
from api.templates import TemplateError
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.errors import Failure

GENERATED_MARK = "[generated]"
"""What the log shows of an argument that holds a generated value."""


def procedure(spec: OperationSpec, call: Call, generated: Mapping[str, str], left: float) -> Procedure:
    """One call for the driver, with what is `left` of the story's time in seconds.

    Raises Failure(TEMPLATE_INVALID) naming the argument.
    """
    values = {"Operation": {"id": spec.id}, **({"Generated": generated} if spec.generated else {})}
    arguments = []
    for text in call.arguments:
        try:
            arguments.append(Argument(text.name, text.template.render(values)))
        except TemplateError as error:
            raise Failure(Reason.TEMPLATE_INVALID, f"argument {text.name} of {call.procedure}: {error}") from None
    return Procedure(
        name=call.procedure,
        arguments=tuple(arguments),
        timeout=min(call.timeout, timedelta(seconds=left)),
        returns=spec.secret is not None,
        silent=call is not spec.calls[-1],
    )


def shown(call: Call, bound: Procedure) -> dict[str, str]:
    """The arguments for the log."""
    return {
        argument.name: GENERATED_MARK
        if any(reference.root == "Generated" for reference in text.template.references)
        else argument.value
        for text, argument in zip(call.arguments, bound.arguments, strict=True)
    }
