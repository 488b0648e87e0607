"""A Kubernetes for the demo, the end-to-end tests and the bench.

`python3 -m tests.cluster up` brings it up; nothing but Python's standard library is needed to run it.
By default it is a single node built from source and started on this machine (root, Debian 12). With
DBAAS_CLUSTER=existing it is whatever cluster the kubeconfig names, and this package only checks it and
hands it the images.

What other test code may import:

- `tests.cluster.settings`: `Settings.from_env(os.environ)`, `DATABASE_NAMES`
- `tests.cluster.images`: `images(settings)`, `base_image(settings)`
- `tests.cluster.node`: `restart`, `pause`, `resume` of one component
"""
