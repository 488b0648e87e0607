"""Executes what a session is sent: batches of the T-SQL that drivers use, and the scripts of procedures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.tds import tokens
from tests.integration.tds.batches import SyntaxFault, Words, statements
from tests.integration.tds.procedures import (
    Assigned,
    Blocked,
    Counted,
    Declared,
    Event,
    Gone,
    Printed,
    Procedure,
    Raised,
    Returned,
    Rows,
    Waits,
)
from tests.integration.tds.reply import Attention, Refusal, Reply
from tests.integration.tds.types import Type, Unconvertible
from tests.integration.tds.world import World

TEXT = Type.parse("nvarchar(max)")
NUMBER = Type.parse("int")
NAME = Type.parse("nvarchar(128)")


_TYPE_INFO = [("TYPE_NAME", "nvarchar(128)"), ("DATA_TYPE", "int"), ("PRECISION", "int")]
"""What sp_datatype_info returns; drivers ask for it and do without an answer."""


@dataclass(slots=True)
class Variable:
    """A variable or parameter, and what it holds."""

    type: Type
    value: object


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of EXEC."""

    name: str
    value: object
    into: str = ""
    """The variable that takes the OUTPUT."""


class Engine:
    """One session's."""

    def __init__(self, world: World, session: int, attention: Callable[[float], bool]) -> None:
        self.world = world
        self.session = session
        self._attention = attention
        """Waits for so many seconds; whether the client cancelled meanwhile."""
        self._in_rpc = False
        self._lock_timeout = float("inf")
        """Seconds."""

    def batch(self, text: str, reply: Reply, variables: dict[str, Variable] | None = None) -> None:
        """Run it to its end, or to the error that ends it. Raises Attention, ConnectionError."""
        self._in_rpc = variables is not None
        scope = variables if variables is not None else {}
        try:
            # A batch is parsed before any of it runs.
            parsed = [Words(one) for one in statements(text)]
            for words in parsed:
                self._statement(words, reply, scope)
        except SyntaxFault as fault:
            raise Refusal(102, f"Incorrect syntax near '{fault.near}'.", 15) from None

    def _statement(self, words: Words, reply: Reply, scope: dict[str, Variable]) -> None:
        verb = words.take()
        if verb.is_word("SET"):
            if words.accept("LOCK_TIMEOUT"):
                self._lock_timeout = int(words.next.text) / 1000
            while words.next.kind != "end":
                words.take()
            self._done(reply)
        elif verb.is_word("DECLARE"):
            self._declare(words, scope)
        elif verb.is_word("EXEC", "EXECUTE"):
            self._exec(words, reply, scope)
        elif verb.is_word("SELECT"):
            self._select(words, reply, scope)
        elif verb.is_word("USE"):
            words.name()
            self._done(reply)
        elif verb.is_word("IF") and "@@TRANCOUNT" in (token.text.upper() for token in words.tokens):
            self._done(reply)  # drivers end transactions so; there is none
        else:
            raise SyntaxFault(verb.text)

    def _done(self, reply: Reply, count: int | None = None) -> None:
        reply.done(tokens.DONEINPROC if self._in_rpc else tokens.DONE, 0, count)

    # Expressions

    def _declare(self, words: Words, scope: dict[str, Variable]) -> None:
        while True:
            name = words.take()
            words.accept("AS")
            kind = Type.parse(words.declared_type())
            scope[name.text.lower()] = Variable(kind, None)
            if words.accept("="):
                value = self._expression(words, scope)
                scope[name.text.lower()].value = self._assigned(value, kind)
            if not words.accept(","):
                break
        words.end()

    def _assigned(self, value: object, kind: Type, procedure: str = "") -> object:
        if not isinstance(value, str):
            return value
        try:
            read = kind.read(value)
        except Unconvertible:
            message = f"Error converting data type nvarchar(max) to {kind.name}."
            raise Refusal(8114, message, procedure=procedure, line=0) from None
        # What is too long for a parameter or a variable is cut, and nobody is told.
        if isinstance(read, str) and kind.length not in (0, 0xFFFF):
            read = read[: kind.length // 2] if kind.name[0] == "n" else read[: kind.length]
        return read

    def _expression(self, words: Words, scope: dict[str, Variable]) -> object:
        token = words.take()
        match token.kind:
            case "variable":
                if token.text.lower() not in scope:
                    raise Refusal(137, f'Must declare the scalar variable "{token.text}".', 15)
                return scope[token.text.lower()].value
            case "string":
                return token.value
            case "number":
                return int(token.text)
        if token.is_word("NULL", "DEFAULT"):
            return None
        if token.is_word("CASE"):
            words.expect("WHEN", "TRY_CONVERT")
            kind, value = self._converted(words, scope)
            words.expect("IS", "NULL", "THEN")
            then = self._expression(words, scope)
            words.expect("ELSE")
            otherwise = self._expression(words, scope)
            words.expect("END")
            try:
                kind.read(str(value))
            except Unconvertible:
                return then
            return otherwise
        if token.is_word("CONVERT"):
            kind, value = self._converted(words, scope)
            return value if value is None else self._assigned(value, kind)
        raise SyntaxFault(token.text)

    def _converted(self, words: Words, scope: dict[str, Variable]) -> tuple[Type, object]:
        """`(type, expression)`, or with the style of binaries."""
        words.expect("(")
        kind = Type.parse(words.declared_type())
        words.expect(",")
        value = self._expression(words, scope)
        if words.accept(","):
            words.take()
        words.expect(")")
        return kind, value

    # SELECT

    def _select(self, words: Words, reply: Reply, scope: dict[str, Variable]) -> None:
        text = " ".join(token.text for token in words.tokens)
        given = [scope[token.text.lower()].value for token in words.tokens if token.text.lower() in scope]
        if "sys ." in text and self.world.catalogue != "shown":
            if self.world.catalogue == "refused":
                raise Refusal(208, "Invalid object name 'sys.all_objects'.")
            self._rows(Rows({"name": "sysname"}, []), reply)
        elif "sys . database_permissions" in text:
            procedure = self.world.find((str(given[0]), str(given[2])))
            self._rows(Rows({"class": "varchar(3)"}, [(one,) for one in procedure.public] if procedure else []), reply)
        elif "sys . all_objects" in text:
            self._rows(self._look_up(text, given), reply)
        elif "sys . procedures" in text:
            known = [(one.schema, one.name) for one in self.world.procedures if one.executable]
            self._rows(Rows({"schema": "nvarchar(128)", "name": "nvarchar(128)"}, known), reply)
        elif "SERVERPROPERTY" in text:
            facts = ("16.0.4135.4", "Developer Edition (64-bit)", self.world.updateability)
            self._rows(Rows([("version", "sysname"), ("edition", "sysname"), ("may", "sysname")], [facts]), reply)
        else:
            self._select_values(words, reply, scope)

    def _select_values(self, words: Words, reply: Reply, scope: dict[str, Variable]) -> None:
        described, values = [], []
        while True:
            variable = scope.get(words.next.text.lower())
            value = self._expression(words, scope)
            kind = variable.type if variable else NUMBER if isinstance(value, int) else TEXT
            name = words.take().value if words.accept("AS") else ""
            described.append((name, kind))
            values.append(value)
            if not words.accept(","):
                break
        words.end()
        kinds = [kind for _, kind in described]
        reply.add(tokens.columns(described) + tokens.row(kinds, values))
        self._done(reply, 1)

    def _look_up(self, text: str, given: Sequence[object]) -> Rows:
        name, schema = str(given[0]), str(given[1]) if "s . name = @" in text.replace("@ ", "@") else None
        found = []
        for one in self.world.matching(schema, name):
            head = (one.schema, one.name, one.kind, int(one.executable), self.world.code_page)
            parameters: Sequence[Declared | None] = one.parameters or (None,)
            for parameter in parameters:
                shape = (None,) * 6
                if parameter is not None:
                    shape = (parameter.name, *parameter.type.catalogue, parameter.output)  # type: ignore[assignment]
                found.append((*head, *shape))
        described = {
            "schema": "sysname",
            "name": "sysname",
            "kind": "varchar(2)",
            "executable": "int",
            "code_page": "int",
            "parameter": "sysname",
            "type": "sysname",
            "length": "smallint",
            "precision": "tinyint",
            "scale": "tinyint",
            "is_output": "bit",
        }
        return Rows(described, found)

    def _rows(self, event: Rows, reply: Reply) -> None:
        kinds = [kind for _, kind in event.described]
        reply.add(tokens.columns(event.described))
        for values in event.rows:
            reply.add(tokens.row(kinds, values))
        self._done(reply, len(event.rows))

    # EXEC

    def _exec(self, words: Words, reply: Reply, scope: dict[str, Variable]) -> None:
        status = ""
        if words.next.kind == "variable":
            status = words.take().text.lower()
            words.expect("=")
        name = words.name()
        arguments = []
        while words.next.kind != "end":
            label = ""
            if words.next.kind == "variable" and words.tokens[words.position + 1 : words.position + 2]:
                following = words.tokens[words.position + 1]
                if following.text == "=":
                    label = words.take().text
                    words.take()
            variable = words.next.text.lower()
            value = self._expression(words, scope)
            into = variable if words.accept("OUTPUT") else ""
            arguments.append(Argument(label, value, into))
            if not words.accept(","):
                break
        words.end()
        result = self.call(name, arguments, reply, scope)
        if status:
            scope[status].value = result

    def call(
        self, name: Sequence[str], arguments: Sequence[Argument], reply: Reply, scope: dict[str, Variable] | None
    ) -> int:
        """Call a procedure; gives its return status. Raises Refusal, Attention, ConnectionError.

        scope: of the batch that calls it; None: it is called as a remote procedure.
        """
        if scope is None:
            self._in_rpc, scope = True, {}
        if name[-1].lower().startswith("sp_datatype_info"):
            self._rows(Rows(_TYPE_INFO, []), reply)
            return 0
        if name[-1].lower() == "sp_getapplock":
            return self._application_lock({one.name.lower(): one.value for one in arguments})
        procedure = self.world.find(name)
        if procedure is None:
            raise Refusal(2812, f"Could not find stored procedure '{'.'.join(name)}'.", line=62)
        if not procedure.executable:
            message = (
                f"The EXECUTE permission was denied on the object '{procedure.name}', database 'master', "
                f"schema '{procedure.schema}'."
            )
            raise Refusal(229, message, 14, procedure=procedure.name)
        values = self._bound(procedure, arguments)
        procedure.calls.append(values)
        outputs = {key.lower(): value for key, value in values.items()}
        self.world.running.add(procedure.name)
        try:
            status = self._run(procedure, values, outputs, reply)
        finally:
            self.world.running.discard(procedure.name)
        for argument in arguments:
            if argument.into:
                scope[argument.into].value = outputs[argument.name.lower()]
        if not self._in_rpc:
            reply.add(tokens.return_status(status))
            reply.done(tokens.DONEPROC)
        return status

    def _bound(self, procedure: Procedure, arguments: Sequence[Argument]) -> dict[str, Any]:
        given: dict[str, object] = {}
        names = [parameter.name for parameter in procedure.parameters]
        if len(arguments) > len(names):
            message = f"Procedure or function {procedure.name} has too many arguments specified."
            raise Refusal(8144, message, procedure=procedure.name, line=0)
        for position, argument in enumerate(arguments):
            known = [name for name in names if name.lower() == argument.name.lower()]
            if argument.name and not known:
                message = f"{argument.name} is not a parameter for procedure {procedure.name}."
                raise Refusal(8145, message, procedure=procedure.name, line=0)
            given[known[0] if argument.name else names[position]] = argument.value
        values = {}
        for parameter in procedure.parameters:
            value = given.get(parameter.name, parameter.default)
            if value is ...:
                message = (
                    f"Procedure or function '{procedure.name}' expects parameter '{parameter.name}', "
                    "which was not supplied."
                )
                raise Refusal(201, message, procedure=procedure.name, line=0)
            values[parameter.name] = self._assigned(value, parameter.type, procedure.name)
        return values

    def _run(self, procedure: Procedure, values: dict[str, Any], outputs: dict[str, Any], reply: Reply) -> int:
        last: Event | None = None
        for last in procedure.script({name.removeprefix("@"): value for name, value in values.items()}):
            match last:
                case Rows():
                    kinds = [kind for _, kind in last.described]
                    reply.add(tokens.columns(last.described))
                    for row in last.rows:
                        reply.add(tokens.row(kinds, row))
                    reply.done(tokens.DONEINPROC, 0, len(last.rows))
                case Counted():
                    reply.done(tokens.DONEINPROC, 0, last.rows)
                case Printed():
                    reply.add(tokens.message(0, last.text, 0, procedure=procedure.name))
                case Raised():
                    refusal = Refusal(
                        last.number,
                        last.message,
                        last.severity,
                        procedure=last.procedure or procedure.name,
                        line=last.line,
                    )
                    reply.refuse(refusal, tokens.DONEINPROC)
                case Waits():
                    self._wait(last, reply)
                case Blocked():
                    self._wait_unlocked(procedure)
                case Gone():
                    reply.flush()
                    raise ConnectionError("the server ends the session")
                case Assigned():
                    outputs["@" + last.name.lower()] = last.value
        if isinstance(last, Raised) and last.severity > 10:
            raise Ended
        return last.status if isinstance(last, Returned) else 0

    def _wait(self, event: Waits, reply: Reply) -> None:
        reply.flush()
        until = time.monotonic() + event.seconds
        while (left := until - time.monotonic()) > 0:
            if event.deaf:
                # Not even a client that went away is noticed.
                time.sleep(min(left, 0.05))
            elif self._attention(min(left, 0.5)):
                raise Attention

    def _wait_unlocked(self, procedure: Procedure) -> None:
        until = time.monotonic() + self._lock_timeout
        while self.world.locked:
            if time.monotonic() >= until:
                raise Refusal(1222, "Lock request time out period exceeded.", procedure=procedure.name)
            if self._attention(0.02):
                raise Attention

    def _application_lock(self, given: dict[str, Any]) -> int:
        until = time.monotonic() + int(given["@locktimeout"]) / 1000
        self.world.waiting.add(self.session)
        try:
            while not self.world.lock(given["@resource"], self.session):
                if time.monotonic() >= until:
                    return -1
                if self._attention(0.02):
                    raise Attention
        finally:
            self.world.waiting.discard(self.session)
        return 0


class Ended(Exception):
    """An error that has been sent already ends the batch."""
