"""A connection as the webhook sees it: bytes come until a request is whole, a thread answers, the answer goes out.

Everything here runs on the event loop and waits for nothing; only answering is another thread's.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

from webhook.app import BODY_LIMIT

STEP = 5.0
"""Seconds for each of handshake, head, body and answer: the API server waits no longer."""
HEAD_LIMIT = 65536
"""Bytes of a request before its body."""
SMALL = 65536
"""Bytes of a body that is always received; larger ones together get `LARGE`."""
LARGE = 64 * 1024 * 1024

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECTING = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_REFUSAL = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Respond = Callable[[bytes, Any], tuple[bytes, bool]]
"""The answer to a whole request of a client's address, and whether its connection can go on."""


class Room:
    """All connections of a process, and what they share. Made on the event loop that it serves."""

    def __init__(self, respond: Respond, threads: int, keep_alive: float) -> None:
        """`respond` is called on one of `threads`; `keep_alive`: seconds for which a connection may be idle."""
        self.loop = asyncio.get_running_loop()
        self.keep_alive = keep_alive
        self.open: set[Conversation] = set()
        self.large = 0
        """Bytes of the large bodies that are here or on their way."""
        self._respond = respond
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="review")

    def answer(self, request: bytes, client: Any, then: Callable[[bytes, bool], None]) -> None:
        """Have a thread answer; `then` is called on the loop."""

        def hand_back(done: Future[tuple[bytes, bool]]) -> None:
            # The loop is closed when the process had to end before the answer was there.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(then, *done.result())

        self._pool.submit(self._respond, request, client).add_done_callback(hand_back)

    def end_late(self) -> None:
        """End the connections whose time is up."""
        now = self.loop.time()
        for conversation in [each for each in self.open if each.deadline < now]:
            conversation.abort()

    def end_idle(self) -> None:
        """End the connections on which nothing is asked."""
        for conversation in [each for each in self.open if each.idle]:
            conversation.close()


class Conversation(asyncio.Protocol):
    """One connection: one request after another, until either side has had enough."""

    _transport: asyncio.Transport

    def __init__(self, room: Room, client: Any) -> None:
        self.deadline = math.inf
        """On the loop's clock: when it has taken too long for what it is at."""
        self._room = room
        self._client = client
        self._received = bytearray()
        self._expected: int | None = None
        """Bytes of the request that arrives; None while its head is not there."""
        self._large = 0
        """Its part of the room's large bodies."""
        self._last = False
        self._answering = False
        self._unread = False

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here."""
        return not (self._received or self._answering)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is over."""
        self._transport = cast("asyncio.Transport", transport)
        self._room.open.add(self)
        self._allow(STEP)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._room.open.discard(self)
        self._release()

    def data_received(self, data: bytes) -> None:
        """Some of a request has come."""
        if not self._received:
            self._allow(STEP)
        self._received += data
        self._advance()

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        self._unread = True
        self._allow(STEP)

    def resume_writing(self) -> None:
        """It does, after all."""
        self._unread = False
        self._go_on()

    def close(self) -> None:
        """End it after what was written."""
        self._allow(STEP)
        self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def _advance(self) -> None:
        """Hand on the request that arrives if all of it is here."""
        if self._answering or self._transport.is_closing():
            return
        if self._expected is None:
            self._expected = self._announced()
        if self._expected is None or len(self._received) < self._expected:
            return
        request = bytes(self._received[: self._expected])
        del self._received[: self._expected]
        self._expected = None
        self._answering = True
        self.deadline = math.inf
        # What could not be answered yet is not read.
        self._transport.pause_reading()
        self._room.answer(request, self._client, self._answered)

    def _announced(self) -> int | None:
        """How many bytes the request that arrives has; None if its head is not there, or refused."""
        end = self._received.find(_HEAD_END, 0, HEAD_LIMIT)
        if end < 0:
            if len(self._received) >= HEAD_LIMIT:
                self.abort()
            return None
        head = bytes(self._received[: end + len(_HEAD_END)])
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if _CHUNKED.search(head):
            self._refuse(b"411 Length Required")
            return None
        if length > BODY_LIMIT:
            # The application refuses it by its length, without its body.
            self._last = True
            return len(head)
        if length > SMALL:
            if self._room.large + length > LARGE:
                self._refuse(b"503 Service Unavailable")
                return None
            self._room.large += length
            self._large = length
        if _EXPECTING.search(head):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._allow(STEP)
        return len(head) + length

    def _answered(self, answer: bytes, more: bool) -> None:  # noqa: FBT001 - the loop calls it
        self._answering = False
        self._release()
        if self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._last or not more:
            self.close()
        elif not self._unread:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next request, which may be here already."""
        self._allow(STEP if self._received else self._room.keep_alive)
        self._advance()
        if not self._answering:
            self._transport.resume_reading()

    def _refuse(self, status: bytes) -> None:
        self._transport.write(_REFUSAL % status)
        self.close()

    def _release(self) -> None:
        self._room.large -= self._large
        self._large = 0

    def _allow(self, seconds: float) -> None:
        self.deadline = self._room.loop.time() + seconds
