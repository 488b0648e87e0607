"""Keeps known secrets out of everything that is logged or reported, in the forms in which programs quote them."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

from api.percent import percent_encoded, query_encoded

MARK = "***"
"""What stands where a secret stood."""
SHORT = 4
"""Secrets of fewer characters are replaced only where they stand alone: "a" is a password, and in every word."""
_FRAGMENT = 8
"""Base64 of a secret inside a longer text is recognised from so many characters on."""
_REPEATED = re.compile(r"(?:\*\*\*){2,}")
_BREAK = r"(?:\r?\n|(?:\\+r)?\\+n)[ \t]*"
"""The end of a line, or what a language writes for it, and how far the next one is indented."""
_WRAPPED = rf"(?<![\w+/-])[\w+/-]{{40,}}+(?:{_BREAK}[\w+/=-]++)+"
"""Base64 in lines, as MIME (76 characters), PEM (64) and PostgreSQL's encode() write it."""


class Redactor:
    """Replaces every secret that it was told, longest first; learns more while the story goes on."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *secrets: str) -> None:
        """Learn secrets; empty ones are none."""
        for secret in secrets:
            self._forms.update(form for form in _forms(secret) if form)
        # In one pass, longest first: no part of a longer form is left over, no mark is replaced again.
        alternatives = map(_alternative, sorted(self._forms, key=lambda form: (-len(form), form)))
        self._pattern = re.compile("|".join(alternatives)) if self._forms else None

    def clean(self, text: str) -> str:
        """The text with a mark for each secret."""
        pattern = self._pattern
        if pattern is None:
            return text
        if "\n" in text or "\\n" in text:
            text = re.sub(_WRAPPED, lambda lines: _joined(lines[0], pattern), text)
        return _REPEATED.sub(MARK, pattern.sub(MARK, text))

    def clean_value(self, value: Any) -> Any:
        """The same for a JSON value: every text in it, keys included."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, dict):
            return {self.clean_value(key): self.clean_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean_value(item) for item in value]
        return value


def _joined(lines: str, pattern: re.Pattern[str]) -> str:
    """Lines of base64 as one, if there is a secret in it; otherwise as they are."""
    line = re.sub(_BREAK, "", lines)
    return line if pattern.search(line) else lines


def _alternative(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= SHORT else rf"(?<!\w){escaped}(?!\w)"


def _forms(secret: str) -> Iterator[str]:
    """The texts in which a secret turns up: itself, escaped for a language, or encoded."""
    data = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield secret.strip()
    yield secret.replace("'", "''")
    yield secret.replace('"', '""')
    backslashed = secret.replace("\\", "\\\\")
    yield backslashed
    for quotes in ("'", '"'):
        yield backslashed.replace(quotes, "\\" + quotes)
    yield backslashed.replace("'", "''")
    yield backslashed.replace("'", "\\'").replace('"', '\\"')
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    for percent in (percent_encoded(data), percent_encoded(data, keep=b"/"), query_encoded(data)):
        yield percent
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), percent)
    yield data.hex()
    yield data.hex().upper()
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(data).decode().rstrip("=")
        yield from _inner(data, encode)


def _inner(data: bytes, encode: Any) -> Iterator[str]:
    """What every base64 text has in it that encodes the secret amid something else, at each of three alignments."""
    for offset in range(3):
        text = encode(bytes(offset) + data).decode()
        # The first characters hold bits of what stands before, the last ones bits of what follows.
        inner = text[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6]
        if len(inner) >= _FRAGMENT:
            yield inner
