"""Gunicorn's worker for the webhook: one event loop holds all connections, threads get whole requests only.

A client that is slow, or stops halfway (in the handshake, the headers, the body, or while it is answered), costs memory
and a descriptor until its time is up, and never a thread. HTTP itself is gunicorn's: parsing, WSGI, responses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gunicorn.http import get_parser, wsgi
from gunicorn.sock import ssl_context
from gunicorn.workers.base import Worker

from webhook.app import BODY_LIMIT

log = logging.getLogger(__name__)

STEP = 5.0
"""Seconds for each of handshake, request and response: the API server waits no longer."""
LINGER = 2.0
"""Seconds for which idle connections stay at the end, for a request that is on its way."""
CONNECTIONS = 900
"""Open at a time; more are closed at once. Those that API servers keep open go on being served."""
HEAD_LIMIT = 65536
"""Bytes of a request before its body."""
SMALL = 65536
"""Bytes of a body that is always received; larger ones together get `LARGE`."""
LARGE = 64 * 1024 * 1024

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECTING = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_REFUSAL = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Answer:
    """What gunicorn takes for a connection while a thread writes the answer."""

    def __init__(self) -> None:
        self.sent = b""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def gettimeout(self) -> float:
        """Asked for before gunicorn answers what is no HTTP; 0: it need not be changed."""
        return 0.0


class ReviewWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Serves until its process is told to end, then answers what it has begun to receive."""

    def run(self) -> None:
        """Serve."""
        self._pool = ThreadPoolExecutor(self.cfg.threads, thread_name_prefix="review")
        self._open: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[Any] | None] = set()
        self._large = 0
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        accepting = [asyncio.create_task(self._accept(listener.sock)) for listener in self.sockets]
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await asyncio.sleep(0.25)
        for task in accepting:
            task.cancel()
        for listener in self.sockets:
            listener.close()
        if self._open:
            await asyncio.wait(self._open, timeout=LINGER)
        for task in self._open - self._busy:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=self.cfg.graceful_timeout)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.settimeout(0)
        while True:
            try:
                connection, client = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("no connection can be taken", extra={"error": error.strerror})
                await asyncio.sleep(0.1)
                continue
            if len(self._open) >= CONNECTIONS:
                connection.close()
                continue
            task = asyncio.create_task(self._converse(connection, client))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _converse(self, connection: socket.socket, client: Any) -> None:
        """Answer one request after another, until either side has had enough."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(HEAD_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = ssl_context(self.cfg)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=STEP, ssl_shutdown_timeout=STEP
            )
        except OSError:
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        idle = STEP
        try:
            while await self._exchange(reader, writer, client, idle):
                idle = self.cfg.keepalive
            writer.close()
            async with asyncio.timeout(STEP):
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            # Too slow, too large or gone; TimeoutError is an OSError.
            pass
        finally:
            transport.abort()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Any, idle: float
    ) -> bool:
        """One request and its answer; whether there may be another."""
        async with asyncio.timeout(idle):
            first = await reader.readexactly(1)
        task = asyncio.current_task()
        self._busy.add(task)
        try:
            async with asyncio.timeout(STEP):
                head = first + await reader.readuntil(b"\r\n\r\n")
            answer, more = await self._answered(head, reader, writer, client)
            async with asyncio.timeout(STEP):
                writer.write(answer)
                await writer.drain()
        finally:
            self._busy.discard(task)
        return more

    async def _answered(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Any
    ) -> tuple[bytes, bool]:
        """The whole answer to a request of which the head has come, and whether the connection can go on."""
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if _CHUNKED.search(head):
            return _REFUSAL % b"411 Length Required", False
        large = length if SMALL < length <= BODY_LIMIT else 0
        if self._large + large > LARGE:
            return _REFUSAL % b"503 Service Unavailable", False
        self._large += large
        try:
            if length > BODY_LIMIT:
                # The application refuses it by its length.
                return (await self._run(head, client))[0], False
            if _EXPECTING.search(head):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(STEP):
                body = await reader.readexactly(length)
            return await self._run(head + body, client)
        finally:
            self._large -= large

    async def _run(self, request: bytes, client: Any) -> tuple[bytes, bool]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._respond, request, client)

    def _respond(self, received: bytes, client: Any) -> tuple[bytes, bool]:
        """On a thread: the application's answer to a whole request, and whether the connection can go on."""
        answer, request = _Answer(), None
        try:
            request = next(get_parser(self.cfg, iter([received]), client))
            self.cfg.pre_request(self, request)
            response, environ = wsgi.create(request, answer, client, self.sockets[0].cfg_addr, self.cfg)
            environ["wsgi.multithread"] = True
            if not self.alive:
                response.force_close()
            items = self.wsgi(environ, response.start_response)
            try:
                for item in items:
                    response.write(item)
                response.close()
            finally:
                if hasattr(items, "close"):
                    items.close()
            return answer.sent, not response.should_close()
        except Exception as error:  # gunicorn has an answer for each: 400, 431, 500
            with suppress(Exception):
                self.handle_error(request, answer, client, error)
            return answer.sent, False
