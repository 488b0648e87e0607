"""The API server as controller and webhook see it: a client of plain manifests, list/watch caches, a lease."""
