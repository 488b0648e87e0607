"""Gunicorn, told what to serve: how worker processes begin, when they take connections, how all of it ends.

A worker takes connections once it can answer: caches filled, certificate loaded. At the end readiness fails first and
connections are given up politely, so that no review is lost.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from prometheus_client.multiprocess import mark_process_dead

from kube.client import Client
from webhook.app import Dependencies, create_app, create_probes
from webhook.certificate import MEMORY, Certificate
from webhook.judgement import Judge
from webhook.metrics import Metrics
from webhook.probes import listen, serve_on_thread
from webhook.settings import Settings
from webhook.trust import Trust
from webhook.watched import WatchedWorld
from webhook.worker import ReviewWorker

log = logging.getLogger(__name__)

WORKERS = 2
THREADS = 32
KEEP_ALIVE = 120
"""Seconds: longer than API servers keep an idle connection, so that it is they who close it."""
DRAIN = 3.0
"""Seconds between being told to end and taking no more connections: API servers need them to hear of it."""
GRACE = 15
"""Seconds that reviews under way then have."""
POLL = 0.1
"""Seconds between two looks at whether a worker can begin."""


class Worker:
    """What one worker process has for itself. Nothing of it may be made before the process is forked."""

    def __init__(self, settings: Settings, draining: Callable[[], bool]) -> None:
        client = Client.from_environment()
        metrics = Metrics()
        self.world = WatchedWorld(client, settings.watch_namespaces)
        self.certificate = Certificate(client, settings.namespace, settings.tls_secret, metrics.certificate_expires)
        self.trust = Trust(client, settings.configuration)
        self._draining = draining
        judge = Judge(self.world, allow_insecure=settings.allow_insecure_endpoints)
        dependencies = Dependencies(judge=judge, metrics=metrics, unready=self.unready)
        self.app: Flask = create_app(dependencies)
        self.probes: Flask = create_probes(dependencies)

    def start(self) -> None:
        """Begin to watch."""
        self.world.start()
        self.certificate.start()
        self.trust.start()

    def unready(self) -> str:
        """Why this process should get no reviews; "" when it should."""
        if self._draining():
            return "ending"
        return self.unable() or self.trust.fault(self.certificate.chain)

    def unable(self) -> str:
        """Why this process could answer no review; "" when it could."""
        if waiting := self.world.waiting_for():
            return f"waiting for the API server's list of {', '.join(waiting)}"
        return "" if self.certificate.loaded else "waiting for the certificate's Secret"


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The gunicorn application. `run` returns by SystemExit when the process is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Shared with the workers, which are forked.
        self._flags = mmap.mmap(-1, 1)
        self._worker: Worker | None = None
        self._probe_listener = listen(settings.metrics_port)
        super().__init__()

    @property
    def draining(self) -> bool:
        """Whether the process was told to end."""
        return self._flags[0] != 0

    def drain(self) -> None:
        """Let readiness fail, and go on answering for as long as API servers may not have heard of it."""
        self._flags[0] = 1
        log.info("draining", extra={"seconds": DRAIN})
        threading.Event().wait(DRAIN)

    def load_config(self) -> None:
        """Gunicorn's settings; nothing is read from files, arguments or GUNICORN_CMD_ARGS."""
        settings: dict[str, Any] = {
            "bind": [f"[::]:{self._settings.port}" if socket.has_dualstack_ipv6() else f":{self._settings.port}"],
            "worker_class": ReviewWorker,
            "workers": WORKERS,
            "threads": THREADS,
            "keepalive": KEEP_ALIVE,
            "graceful_timeout": GRACE,
            "control_socket_disable": True,
            "worker_tmp_dir": str(MEMORY) if MEMORY.is_dir() else None,
            # Any path that exists: it only says that there is TLS, the context comes from the hook.
            "certfile": os.devnull,
            "keyfile": os.devnull,
            "ssl_context": self._ssl_context,
            "post_worker_init": self._wait_until_ready,
            "pre_request": self._before_request,
            "child_exit": _forget_worker,
            # Its records go where all others go.
            "logconfig_dict": {
                "version": 1,
                "disable_existing_loggers": False,
                "root": {},
                "loggers": {"gunicorn.error": {"handlers": [], "propagate": True}},
            },
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The WSGI application, made in the worker."""
        self._worker = Worker(self._settings, lambda: self.draining)
        self._worker.start()
        serve_on_thread(self._probe_listener, self._worker.probes)
        return self._worker.app

    def run(self) -> None:
        """Serve until told to end."""
        with self._probe_listener:
            DrainingArbiter(self).run()

    def _loaded(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("asked outside a worker")
        return self._worker

    def _ssl_context(self, _config: Any, _default: Any) -> ssl.SSLContext:
        # Asked for every connection: a renewed certificate is live without a signal.
        return self._loaded().certificate.context

    def _wait_until_ready(self, process: Any) -> None:
        # The listening socket is open already: who connects meanwhile waits.
        last = None
        while process.alive and (reason := self._loaded().unable()):
            if reason != last:
                log.info("not ready", extra={"reason": reason})
            last = reason
            process.notify()
            threading.Event().wait(POLL)
        log.info("worker ready", extra={"pid": process.pid})

    def _before_request(self, _process: Any, request: Any) -> None:
        if self.draining:
            # Answered with "Connection: close", so that the client goes elsewhere next time.
            request.force_close()


class DrainingArbiter(Arbiter):  # type: ignore[misc]
    """Gunicorn's master process, which ends in two steps."""

    def handle_term(self) -> None:
        """SIGTERM: drain, then end gracefully."""
        self.app.drain()
        super().handle_term()


def _forget_worker(_server: Any, process: Any) -> None:
    mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
