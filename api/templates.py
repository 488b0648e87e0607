"""Templates: texts with Go-template references such as `{{ .Params.size | default "1" }}`, and nothing more of Go.

Rendered once: a value that contains `{{` stays as it is. Kept on the standard library alone: every Job pays for this
import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from typing import Final

from api.references import (
    ALL_ROOTS,
    STRING,
    MissingValue,
    Pipe,
    Reference,
    TemplateError,
    Values,
    available,
    shortened,
)

__all__ = [
    "ALL_ROOTS",
    "IDENTITY_ROOTS",
    "INPUT_ROOTS",
    "MissingValue",
    "Pipe",
    "Reference",
    "Segment",
    "Template",
    "TemplateError",
    "Values",
    "check_roots",
    "refers_to_empty",
]

INPUT_ROOTS = ALL_ROOTS - {"Result"}
"""What the inputs of an operation may refer to."""
IDENTITY_ROOTS = frozenset({"Metadata", "Params", "Endpoint"})
"""What an identity may refer to: it must be the same whenever it is rendered."""

# A string may contain the delimiters. Alternatives begin with different characters, so nothing backtracks.
_ACTION = r"\{\{(?P<expression>(?:[^\"`}\n]|\}(?!\})|" + STRING + r")*)\}\}"

Segment = str | Reference


class Template:
    """Texts and references in order. Equal templates render equally: adjacent texts are one, empty ones none.

    source: what it was parsed from, for messages; "" when it was put together otherwise.
    """

    __slots__ = ("segments", "source")

    def __init__(self, segments: Iterable[Segment], source: str = "") -> None:
        self.segments: Final = tuple(_merged(segments))
        self.source: Final = source

    def __eq__(self, other: object) -> bool:
        return self.segments == other.segments if isinstance(other, Template) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.segments)

    def __repr__(self) -> str:
        # A text may be a bound password.
        parts = (f"{{{{ {s} }}}}" if isinstance(s, Reference) else f"<{len(s)}>" for s in self.segments)
        return f"Template({' '.join(parts)})"

    @classmethod
    def parse(cls, source: str, roots: Set[str] = ALL_ROOTS) -> Template:
        """Read a template whose references may begin with `roots`; raises TemplateError."""
        template = _parsed(source)
        check_roots(template, roots)
        return template

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references that are open, in order, repetitions included."""
        return tuple(segment for segment in self.segments if isinstance(segment, Reference))

    @property
    def literal(self) -> str | None:
        """The text, when no reference is open."""
        return None if self.references else "".join(map(str, self.segments))

    def missing(self, values: Values) -> tuple[Reference, ...]:
        """The open references whose root is in `values` but whose value is not."""
        return tuple(r for r in self.references if r.root in values and r.value(values) is None)

    def bind(self, values: Values) -> Template:
        """Put in what `values` has; a reference whose root is not in `values` stays open.

        Raises MissingValue for a key that its root lacks, unless a `default` pipe gives the value.
        """
        return Template(tuple(self._bound(segment, values) for segment in self.segments), self.source)

    def render(self, values: Values) -> str:
        """The finished text. Raises MissingValue for a reference that is still open or has no value."""
        bound = self.bind(values)
        if (text := bound.literal) is not None:
            return text
        reference = bound.references[0]
        roots = ", ".join(f".{root}" for root in values) or "none"
        raise self._missing(reference, f"is not known here; the roots that are: {roots}")

    def _bound(self, segment: Segment, values: Values) -> Segment:
        if isinstance(segment, str) or segment.root not in values:
            return segment
        value = segment.value(values)
        if value is None:
            raise self._missing(segment, f"has no value; {available(segment, values)}")
        return value

    def _missing(self, reference: Reference, what: str) -> MissingValue:
        return MissingValue(
            f"template {_shown(self.source or '{{ ' + str(reference) + ' }}')}: {reference.name} {what}",
            reference,
        )


def check_roots(template: Template, roots: Set[str]) -> None:
    """Raise TemplateError for the first reference whose root is not among `roots`."""
    for reference in template.references:
        if reference.root not in roots:
            names = ", ".join(f".{root}" for root in sorted(roots))
            raise TemplateError(
                f"template {_shown(template.source)}: {reference.name} cannot be used here; available are {names}"
            )


def refers_to_empty(template: Template, values: Values) -> bool:
    """Whether a `.Result` that the template needs is empty and no `default` stands in for it.

    Judged on the result, not on the rendered text: "an empty value means unchanged" would else cost a `dsn` its
    password. A result key that is absent altogether is not empty: rendering says what is missing.
    """
    return any(
        reference.lookup(values) == "" and not any(pipe.name == "default" and pipe.argument for pipe in reference.pipes)
        for reference in template.references
        if reference.root == "Result" and "Result" in values
    )


@lru_cache(maxsize=1024)
def _parsed(source: str) -> Template:
    # A class's templates are looked at again for each of its Databases.
    segments: list[Segment] = []
    position = 0
    while (start := source.find("{{", position)) >= 0:
        action = re.compile(_ACTION).match(source, start)
        if action is None:
            raise TemplateError(f"template {_shown(source)}: {_unclosed(source, start)}")
        try:
            reference = Reference.parse(action["expression"])
        except TemplateError as error:
            raise TemplateError(f"template {_shown(source)}: {error}") from None
        segments += (source[position:start], reference)
        position = action.end()
    segments.append(source[position:])
    return Template(segments, source)


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    text = ""
    for segment in segments:
        if isinstance(segment, str):
            text += segment
            continue
        if text:
            yield text
        text = ""
        yield segment
    if text:
        yield text


def _unclosed(source: str, start: int) -> str:
    rest = source[start:]
    line, newline, _ = rest.partition("\n")
    if line.count('"') % 2 or rest.count("`") % 2:
        return "a text inside {{ }} is not closed; add the quote that ends it"
    if newline and "}}" in rest:
        return "{{ is not closed on its line; write a reference on one line"
    return "{{ is not closed; add }}"


def _shown(source: str) -> str:
    return f'"{shortened(source)}"'
