"""A webhook that decides nothing: what being asked costs by itself, on the machine that measures."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.pki import KeyPair

_PATCH = [{"op": "add", "path": "/metadata/annotations", "value": {"bench": "x" * 200}}]
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


@contextmanager
def bare_webhook(certificate: KeyPair) -> Iterator[str]:
    """Its URL while it runs; at `/mutate` it answers with a patch of the size of a stamp."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, name="bare-webhook", daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            body = await reader.readexactly(int(found[1]) if found else 0)
            writer.write(_answer(head.startswith(b"POST /mutate"), body))
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        # The API server has gone, or this one ends.
        writer.close()


def _answer(mutates: bool, body: bytes) -> bytes:  # noqa: FBT001 - of one caller
    response = {"uid": json.loads(body)["request"]["uid"], "allowed": True}
    if mutates:
        response |= {"patchType": "JSONPatch", "patch": b64encode(json.dumps(_PATCH).encode()).decode()}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    content = json.dumps(review).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content
