"""One reply on its way to the client: tokens, the DONEs between them, packets as they fill."""

from __future__ import annotations

from tests.integration.tds import tokens
from tests.integration.tds.packets import HEADER, Kind, framed
from tests.integration.tds.transport import Channel


class Attention(Exception):
    """The client has cancelled what runs."""


class Refusal(Exception):
    """An error that ends the batch."""

    def __init__(self, number: int, message: str, severity: int = 16, *, procedure: str = "", line: int = 1) -> None:
        super().__init__(message)
        self.number = number
        self.message = message
        self.severity = severity
        self.procedure = procedure
        self.line = line


class Reply:
    """Written in order; `finish` sends the end of it."""

    def __init__(self, channel: Channel, packet_size: int) -> None:
        self.channel = channel
        self._size = packet_size
        self._data = bytearray()
        self._pending: tuple[int, int, int | None] | None = None
        """A DONE of which it is not known yet whether more follows."""

    def add(self, data: bytes) -> None:
        """Tokens; what fills packets leaves at once."""
        self._close_pending(tokens.MORE)
        self._data += data
        self._send_full()

    def done(self, token: int, status: int = 0, count: int | None = None) -> None:
        """The end of a statement or a procedure."""
        self._close_pending(tokens.MORE)
        self._pending = (token, status, count)

    def refuse(self, refusal: Refusal, token: int) -> None:
        """An error, and the end of its statement."""
        text = tokens.message(
            refusal.number,
            refusal.message,
            refusal.severity,
            procedure=refusal.procedure,
            line=refusal.line,
        )
        self.add(text)
        self.done(token, tokens.ERROR)

    def _close_pending(self, more: int) -> None:
        if self._pending is not None:
            token, status, count = self._pending
            self._pending = None
            counted = 0 if count is None else tokens.COUNT
            self._data += tokens.done(token, status | more | counted, count or 0)

    def _send_full(self) -> None:
        room = self._size - HEADER.size
        # The last packet of all must not be empty.
        while len(self._data) > room:
            packet = bytearray(framed(Kind.REPLY, bytes(self._data[:room]), self._size))
            packet[1] = 0
            self.channel.send(bytes(packet))
            del self._data[:room]

    def flush(self) -> None:
        """Send what there is, in a packet that is not the last."""
        self._close_pending(tokens.MORE)
        if self._data:
            packet = bytearray(framed(Kind.REPLY, bytes(self._data), self._size))
            packet[1] = 0
            self.channel.send(bytes(packet))
            self._data.clear()

    def finish(self) -> None:
        """Send the rest."""
        self._close_pending(0)
        self.channel.send(framed(Kind.REPLY, bytes(self._data), self._size))
        self._data.clear()

    def cancelled(self) -> None:
        """The end of a reply that an attention cut short."""
        self._close_pending(tokens.MORE)
        self._data += tokens.done(tokens.DONE, tokens.ATTENTION)
        self.finish()
