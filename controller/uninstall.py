"""`python -m controller uninstall`: what Helm's pre-delete hook runs.

Without a controller nobody would take finalizers off, and with webhooks that fail closed nobody could change anything:
so it refuses while Databases are held, and takes the webhook configurations away first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from api.labels import FINALIZER
from api.listing import listed
from api.resources import DATABASES, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from kube.client import Client
from kube.environment import Environment
from kube.errors import NotFound


def uninstall(client: Client, environ: Mapping[str, str]) -> int:
    """Make way for the uninstallation; returns the exit code: 1 when Databases are still held.

    Raises SettingsError.
    """
    read = Environment(environ)
    configuration = read.name("DBAAS_WEBHOOK_CONFIGURATION")
    watched = read.namespaces("DBAAS_WATCH_NAMESPACES")
    force = read.switch("DBAAS_UNINSTALL_FORCE")
    read.finish()
    held = [
        f"{database['metadata']['namespace']}/{database['metadata']['name']}"
        for namespace in (watched or (None,))
        for database in client.list(DATABASES, namespace=namespace)[0]
        if FINALIZER in (database["metadata"].get("finalizers") or ())
    ]
    if held and not force:
        sys.stderr.write(
            f"{len(held)} Database(s) still exist: {listed(held)}. Delete them first (kubectl delete databases), "
            "or set uninstall.force to leave them and their finalizers as they are. Helm upgrades a release whose "
            "uninstallation was refused only after `helm rollback` to the revision that it has.\n"
        )
        return 1
    for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        try:
            client.delete(resource, configuration)
        except NotFound:
            continue
    return 0
