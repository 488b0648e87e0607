"""Labels, annotations, finalizers and key names that two programs, or a program and a person, must agree on."""

from __future__ import annotations

from api.resources import GROUP

FINALIZER = f"{GROUP}/database"
"""Held on a Database until its server no longer has it, or no longer owes it anything."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "kubernetes-dbaas"

# Where an object comes from. Label values, so that `kubectl get -l` finds them.
LABEL_DATABASE = f"{GROUP}/database"
LABEL_DATABASE_NAMESPACE = f"{GROUP}/database-namespace"
LABEL_INSTANCE = f"{GROUP}/instance"
LABEL_ENDPOINT = f"{GROUP}/endpoint"
LABEL_OPERATION_TYPE = f"{GROUP}/operation-type"
LABEL_CREDENTIALS = f"{GROUP}/credentials"
"""`"true"` on every Secret that a Job writes for a user."""
LABEL_ENDPOINT_CREDENTIALS = f"{GROUP}/endpoint-credentials"
"""`"true"` on a Secret that a DatabaseEndpoint may name; without it an endpoint's author could send it anywhere."""
LABEL_DECLARED_BY = f"{GROUP}/declared-by"
"""The Helm release whose values declare this object."""

# On a Database: stamped by the webhook (`api.stamp`).
REQUESTED_BY = f"{GROUP}/requested-by"
ROTATE_REQUESTED_BY = f"{GROUP}/rotate-requested-by"
"""Who set `ROTATE` to the value that it has; there only while that is."""
RETRY_REQUESTED_BY = f"{GROUP}/retry-requested-by"
"""Who set `RETRY` to the value that it has; there only while that is."""
ADOPT_REQUESTED_BY = f"{GROUP}/adopt-requested-by"
"""Who set `ADOPT` to the value that it has; there only while that is."""
DEFAULTED_PARAMS = f"{GROUP}/defaulted-params"
"""Comma-separated names of the parameters that the class's defaults filled in at creation."""
# On a Database: asked by users.
RETRY = f"{GROUP}/retry"
ROTATE = f"{GROUP}/rotate"
ABANDON = f"{GROUP}/abandon"
"""On a Database that is being deleted: let it go without a call, its server being gone for good."""
ADOPT = f"{GROUP}/adopt"
"""`"true"`: have the credentials of a database reset that existed before the Database asked for it."""
CONFIRM_DELETE = f"{GROUP}/confirm-delete"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's own, on anything that was applied: large, and says nothing that the object does not say."""

# On a Job that probes an endpoint.
PROBE_TYPE = "probe"
"""Its `LABEL_OPERATION_TYPE`."""
LABEL_PROBE_BASIS = f"{GROUP}/probe-basis"
"""What was probed: digests of login and class; see `controller/basis.py`."""
PROBE_SPEC = f"{GROUP}/probe"
"""What it is to look at, as JSON; no secret is in it."""
# On a DatabaseInstance.
ADOPTED_FROM = f"{GROUP}/adopted-from"
"""The uid of the Database that held the claim before the present one."""
# On a Secret written by a Job.
DATABASE_UID = f"{GROUP}/database-uid"
SEQUENCE = f"{GROUP}/sequence"
ROTATED_AT = f"{GROUP}/rotated-at"
KEYS = f"{GROUP}/keys"
"""The keys that the Job wrote with a value (`api.binding`): what is gone of them was taken out by somebody else."""

# Keys of an endpoint's Secrets.
USERNAME_KEY = "username"
PASSWORD_KEY = "password"  # noqa: S105 - a key's name
CA_KEY = "ca.crt"
TLS_CERTIFICATE_KEY = "tls.crt"
TLS_PRIVATE_KEY_KEY = "tls.key"

# Where a Job finds its files (one projected volume).
JOB_FILES = "/etc/dbaas"
CREDENTIALS_DIRECTORY = "credentials"
CA_DIRECTORY = "ca"
CLIENT_CERTIFICATE_DIRECTORY = "client"
GENERATED_DIRECTORY = "generated"
PROBE_FILE = "probe.json"
"""What a probe is to look at: an annotation of its Pod, as a file."""
# What a Job learns from its environment: whom to ask, never a secret.
OPERATION_ENV = "DBAAS_OPERATION"
NAMESPACE_ENV = "DBAAS_NAMESPACE"
