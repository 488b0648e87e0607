"""The API server as the node's own checks see it: a few reads as administrator."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from tests.cluster.pki import Pki
from tests.cluster.settings import NODE, PORTS, Settings

TIMEOUT = 2.0
NOT_THERE = (OSError, ssl.SSLError, http.client.HTTPException, ValueError)


class Api:
    """GET requests over verified TLS; what cannot be had is None."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ready(self) -> bool:
        """Whether the API server calls itself ready."""
        return self._get("/readyz") == b"ok"

    def version(self) -> str | None:
        """Return the server's version."""
        version = self._object("/version")
        return str(version["gitVersion"]) if version else None

    def node_ready(self) -> bool:
        """Whether the node takes pods: it is Ready, and pods find the service account they need."""
        node = self._object(f"/api/v1/nodes/{NODE}")
        conditions = node["status"].get("conditions", []) if node else []
        ready = any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
        return ready and self._get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _object(self, path: str) -> dict[str, Any] | None:
        body = self._get(path)
        found = json.loads(body) if body else None
        return found if isinstance(found, dict) else None

    def _get(self, path: str) -> bytes | None:
        pki = Pki(self._settings)
        try:
            context = ssl.create_default_context(cafile=pki.crt("ca"))
            context.load_cert_chain(pki.crt("admin"), pki.key("admin"))
            host, port = self._settings.host, PORTS["kube-apiserver"]
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
            finally:
                connection.close()
        except NOT_THERE:
            return None
        return body if response.status == 200 else None


def answers(port: int, path: str) -> bool:
    """Whether a component's own health check on this machine says yes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except NOT_THERE:
        return False
    finally:
        connection.close()


def has_certificates(settings: Settings) -> bool:
    """Whether there is anything to ask with."""
    return Path(Pki(settings).crt("admin")).exists()
