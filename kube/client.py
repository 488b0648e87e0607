"""Requests to the API server, with manifests as plain dicts.

Connection settings, credentials and TLS come from the kubernetes package; its typed models stay out, because they
cost half a second of start-up and most of a controller's memory.
"""

from __future__ import annotations

import builtins
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlencode

from kubernetes import config
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject
from urllib3.exceptions import HTTPError

from api.resources import Resource
from kube.errors import Gone, Unavailable, error_from_response

CONNECT_TIMEOUT = 5.0
"""Seconds to a connection."""
REQUEST_TIMEOUT = 30.0
"""Seconds to an answer, or to the beginning of a watch's."""
KEEPALIVE = (
    # A watch hears nothing for minutes: that its other end has vanished is noticed after one.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""Options of a socket: level, name, value."""
FIELD_MANAGER = "kubernetes-dbaas"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""What to accept where contents are nobody's business."""
PAGE = 500
"""Objects a list request brings at a time."""

Object = dict[str, Any]
"""A manifest as the API server sends it."""


class Client:
    """Creates, reads, patches, deletes and watches objects of any resource. Safe to share between threads.

    Every method raises a `KubeError`; none retries.
    """

    def __init__(self, configuration: Configuration, request_seconds: float = REQUEST_TIMEOUT) -> None:
        # Retries belong to the queue, which knows what is being done; a hidden one would repeat a create.
        configuration.retries = False
        configuration.connection_pool_maxsize = 64
        configuration.socket_options = list(KEEPALIVE)
        self._request_seconds = request_seconds
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    @classmethod
    def from_environment(cls, request_seconds: float = REQUEST_TIMEOUT) -> Self:
        """Connect as the Pod's ServiceAccount, else as `$KUBECONFIG` or `~/.kube/config` says."""
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            config.load_kube_config(client_configuration=configuration)
        return cls(configuration, request_seconds)

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """Read one object; NotFound if there is none."""
        return self._request("GET", resource.path(name, namespace=namespace))

    def metadata(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """Read the metadata of one object alone, for who has no business with what is in it; NotFound likewise."""
        path = resource.path(name, namespace=namespace)
        metadata: Object = self._request("GET", path, accept=METADATA_ONLY)["metadata"]
        return metadata

    def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
    ) -> tuple[list[Object], str]:
        """Read a whole collection; returns the objects and the resource version to watch from.

        `labels` and `fields` are selectors in the API's text form.
        """
        items: list[Object] = []
        version = ""
        for page, version in self.pages(resource, namespace=namespace, labels=labels, fields=fields):  # noqa: B007
            items += page
        return items, version

    def pages(
        self, resource: Resource, *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> Iterator[tuple[builtins.list[Object], str]]:
        """The same page by page, for who does not want to hold a large collection as it was sent."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        while True:
            page = self._request("GET", resource.path(namespace=namespace), query)
            metadata = page["metadata"]
            yield page.get("items") or [], metadata["resourceVersion"]
            if not (token := metadata.get("continue")):
                return
            query["continue"] = token

    def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create an object; AlreadyExists if its name is taken."""
        path = resource.path(namespace=_namespace(manifest))
        return self._request("POST", path, {"fieldManager": FIELD_MANAGER}, _typed(resource, manifest))

    def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply as this operator's field manager, taking over fields that others own."""
        path = resource.path(manifest["metadata"]["name"], namespace=_namespace(manifest))
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._request("PATCH", path, query, _typed(resource, manifest), "application/apply-patch+yaml")

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str = "",
    ) -> Object:
        """Merge-patch an object (RFC 7386); a `metadata.resourceVersion` in it makes a lost race a Conflict."""
        path = resource.path(name, namespace=namespace, subresource=subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return self._request("PATCH", path, query, patch, "application/merge-patch+json")

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
        propagation: str = "Background",
    ) -> None:
        """Delete an object; with `uid` only that very one (Conflict otherwise), NotFound if there is none."""
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        self._request("DELETE", resource.path(name, namespace=namespace), None, body)

    def watch(
        self,
        resource: Resource,
        since: str,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        seconds: int = 300,
    ) -> Iterator[tuple[str, Object]]:
        """Yield (type, object) until the server ends the watch after about `seconds`.

        Types are ADDED, MODIFIED, DELETED and BOOKMARK. Raises Gone when `since` is too old to watch from.
        """
        query = {
            "watch": "true",
            "resourceVersion": since,
            "labelSelector": labels,
            "fieldSelector": fields,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        response = self._send("GET", resource.path(namespace=namespace), query, None)
        # It begins at once, or not at all. Then the server's timeout ends a healthy one; the client's, one that fell
        # silent on a connection that lives.
        if (connection := response.response.connection) is not None and connection.sock is not None:
            connection.sock.settimeout(seconds + 15)
        try:
            for line in _lines(response.response.stream(amt=None)):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    if status.get("code") == 410:
                        raise Gone(status.get("message", "too old resource version"), code=410)
                    raise Unavailable(status.get("message", "watch failed"), code=status.get("code", 0))
                yield event["type"], event["object"]
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"watch of {resource.plural} was cut: {type(error).__name__}") from error
        finally:
            response.response.close()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        try:
            response = self._send(method, path, query, body, content_type, accept)
            answer: Object = json.loads(response.read())
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"the API server cannot be reached: {type(error).__name__}") from error
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        url = self._configuration.host + path
        if query := {key: value for key, value in (query or {}).items() if value}:
            url += "?" + urlencode(query)
        headers = {"Accept": accept, "User-Agent": FIELD_MANAGER}
        if token := self._configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            response = self._rest.request(
                method, url, headers=headers, body=body, _request_timeout=(CONNECT_TIMEOUT, self._request_seconds)
            )
        except (HTTPError, OSError, ApiException) as error:
            # The kubernetes package calls a broken TLS handshake by a name of its own.
            raise Unavailable(f"the API server cannot be reached: {type(error).__name__}") from error
        if not 200 <= response.status < 300:
            raise error_from_response(response.status, response.read() or b"")
        return response


def _namespace(manifest: Mapping[str, Any]) -> str | None:
    namespace: str | None = manifest["metadata"].get("namespace")
    return namespace


def _typed(resource: Resource, manifest: Mapping[str, Any]) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
