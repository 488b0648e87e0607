"""Gunicorn's worker for the webhook: one event loop holds all connections, threads get whole requests only.

A client that is slow, or stops halfway (in the handshake, the head, the body, or while it is answered), costs memory
and a descriptor until its time is up, and never a thread. HTTP itself is gunicorn's: parsing, WSGI, responses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from typing import Any

from gunicorn.http import get_parser, wsgi
from gunicorn.sock import ssl_context
from gunicorn.workers.base import Worker

from webhook.conversation import STEP, Conversation, Room

log = logging.getLogger(__name__)

LINGER = 2.0
"""Seconds for which idle connections stay at the end, for a request that is on its way."""
CONNECTIONS = 900
"""Open at a time; more are closed at once. Those that API servers keep open go on being served."""
LOOK = 0.25
"""Seconds between two looks at the parent process, and at who is late."""


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
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._room = Room(self._respond, self.cfg.threads, self.cfg.keepalive)
        self._arriving: set[asyncio.Task[None]] = set()
        accepting = [asyncio.create_task(self._accept(listener.sock)) for listener in self.sockets]
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await self._look()
        for task in accepting:
            task.cancel()
        for listener in self.sockets:
            listener.close()
        await self._all_gone(LINGER)
        for task in self._arriving:
            task.cancel()
        self._room.end_idle()
        await self._all_gone(self.cfg.graceful_timeout)

    async def _look(self, seconds: float = LOOK) -> None:
        await asyncio.sleep(seconds)
        self._room.end_late()

    async def _all_gone(self, seconds: float) -> None:
        """Wait until there is no connection any more, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._room.open or self._arriving:
                    await self._look(LOOK / 10)

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
            if len(self._room.open) + len(self._arriving) >= CONNECTIONS:
                connection.close()
                continue
            task = asyncio.create_task(self._welcome(connection, client))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _welcome(self, connection: socket.socket, client: Any) -> None:
        """Shake hands; what follows is the conversation's."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Conversation(self._room, client),
                connection,
                ssl=ssl_context(self.cfg),
                ssl_handshake_timeout=STEP,
                ssl_shutdown_timeout=STEP,
            )
        except OSError:
            # Too slow, no TLS, or gone; TimeoutError is an OSError.
            connection.close()

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
