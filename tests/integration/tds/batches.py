"""The T-SQL that the double understands: what drivers send around a call, and nothing more.

Anything else is what it would be if a value had broken out of its parameter: error 102, "Incorrect syntax".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""\s+|--[^\n]*
      |(?P<quoted>\[(?:[^\]]|\]\])*\])
      |(?P<string>N?'(?:[^']|'')*')
      |(?P<variable>@@?[\w#$@]+)
      |(?P<number>-?\d+)
      |(?P<word>[^\W\d][\w#$@]*)
      |(?P<sign>[.,;=()?{}*<>+])""",
    re.VERBOSE,
)


class SyntaxFault(Exception):
    """What is no statement that the double knows; `near` is where."""

    def __init__(self, near: str) -> None:
        super().__init__(near)
        self.near = near


@dataclass(frozen=True, slots=True)
class Token:
    """A word of T-SQL."""

    kind: str
    text: str

    @property
    def value(self) -> str:
        """Without its quotes."""
        if self.kind == "quoted":
            return self.text[1:-1].replace("]]", "]")
        if self.kind == "string":
            return self.text.removeprefix("N")[1:-1].replace("''", "'")
        return self.text

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these, in any case."""
        return self.kind == "word" and self.text.upper() in words


def tokens(text: str) -> list[Token]:
    """All tokens. Raises SyntaxFault."""
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SyntaxFault(text[position : position + 20])
        position = match.end()
        if match.lastgroup:
            found.append(Token(match.lastgroup, match[0]))
    return found


def statements(text: str) -> Iterator[list[Token]]:
    """The statements of a batch; each ends with `;`, or where a word begins the next."""
    current: list[Token] = []
    depth = 0
    for token in tokens(text):
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "sign" else 0
        fresh = depth == 0 and token.is_word("SET", "DECLARE", "EXEC", "EXECUTE", "SELECT", "IF", "USE")
        if token.text == ";" or (fresh and current and not current[0].is_word("IF")):
            if current:
                yield current
            current = [] if token.text == ";" else [token]
        else:
            current.append(token)
    if current:
        yield current


class Words:
    """The tokens of one statement, read from left to right."""

    def __init__(self, read: list[Token]) -> None:
        self.tokens = read
        self.position = 0

    @property
    def next(self) -> Token:
        """The one that comes; an empty one at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else Token("end", "")

    def take(self) -> Token:
        """The one that comes, consumed."""
        token = self.next
        self.position += 1
        return token

    def accept(self, text: str) -> bool:
        """Consume a word or sign if it comes."""
        if self.next.text.upper() == text.upper() and self.next.kind in ("word", "sign"):
            self.position += 1
            return True
        return False

    def expect(self, *texts: str) -> None:
        """Consume them. Raises SyntaxFault."""
        for text in texts:
            if not self.accept(text):
                raise SyntaxFault(self.next.text)

    def end(self) -> None:
        """Raises SyntaxFault when something is left."""
        if self.next.kind != "end":
            raise SyntaxFault(self.next.text)

    def name(self) -> tuple[str, ...]:
        """A name of several parts."""
        parts = []
        while True:
            token = self.take()
            if token.kind not in ("word", "quoted"):
                raise SyntaxFault(token.text)
            parts.append(token.value)
            if not self.accept("."):
                return tuple(parts)
            while self.accept("."):
                parts.append("")

    def declared_type(self) -> str:
        """A type, such as `decimal(10, 2)`."""
        token = self.take()
        if token.kind not in ("word", "quoted"):
            raise SyntaxFault(token.text)
        text = token.value
        if self.accept("("):
            text += "("
            while not self.accept(")"):
                text += self.take().text
            text += ")"
        return text
