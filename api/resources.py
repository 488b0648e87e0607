"""The resources of the API server that the programs touch, and their URLs.

Knows groups, versions and plurals; never makes a request.
"""

from __future__ import annotations

from typing import NamedTuple

from api.percent import percent_encoded

GROUP = "dbaas.bedag.ch"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"


class Resource(NamedTuple):
    """One resource type; `group` is empty for the core API."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """The `apiVersion` of a manifest of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, name: str | None = None, *, namespace: str | None = None, subresource: str = "") -> str:
        """The URL path of one object, or of the collection when `name` is None.

        A namespaced resource without a namespace gives the collection over all namespaces.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _segment(name: str) -> str:
    """A name as one segment of a path, whatever a user put into it."""
    encoded = percent_encoded(name.encode())
    return encoded.replace(".", "%2E") if name in (".", "..") else encoded


DATABASES = Resource(GROUP, VERSION, "Database", "databases", namespaced=True)
CLASSES = Resource(GROUP, VERSION, "DatabaseClass", "databaseclasses", namespaced=False)
ENDPOINTS = Resource(GROUP, VERSION, "DatabaseEndpoint", "databaseendpoints", namespaced=False)
POLICIES = Resource(GROUP, VERSION, "DatabasePolicy", "databasepolicies", namespaced=False)
INSTANCES = Resource(GROUP, VERSION, "DatabaseInstance", "databaseinstances", namespaced=False)
OPERATIONS = Resource(GROUP, VERSION, "Operation", "operations", namespaced=True)

NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
PODS = Resource("", "v1", "Pod", "pods", namespaced=True)
EVENTS = Resource("events.k8s.io", "v1", "Event", "events", namespaced=True)
ROLES = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles", namespaced=True)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", namespaced=True)
JOBS = Resource("batch", "v1", "Job", "jobs", namespaced=True)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    namespaced=False,
)
