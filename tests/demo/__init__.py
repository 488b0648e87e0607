"""The demo: what a developer, an administrator and an auditor see, on a real Kubernetes and a real database server."""
