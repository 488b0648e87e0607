# One image per program: --target webhook, controller or provisioner-job.
#
# BASE_IMAGE is any image with Python 3.11 or newer and its venv module.
# An index, a proxy or an authority of your own comes in by secrets, so that none of it stays in an image:
#   --secret id=pip.env,src=FILE           lines like PIP_INDEX_URL='…'
#   --secret id=pip.conf,src=FILE          pip's own configuration file
#   --secret id=certificates,src=FILE      the authorities to trust, PEM
ARG BASE_IMAGE=python:3.13-slim

# What each program requires, apart from the rest of pyproject.toml: only a changed requirement is installed anew.
FROM ${BASE_IMAGE} AS requirements
COPY pyproject.toml /
RUN python3 -c "import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path('/pyproject.toml').read_text())['project']; \
[pathlib.Path(f'/{extra}.txt').write_text('\n'.join([*project['dependencies'], *wanted, ''])) \
 for extra, wanted in project['optional-dependencies'].items()]" && touch -d @0 /*.txt

# pip lives in a venv of its own, so that the programs' venv has none. The Kubernetes client brings everything
# twice; without the copy for asyncio, which nothing here uses, an image is 60 MB smaller.
FROM ${BASE_IMAGE} AS installer
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
RUN printf '%s\n' '#!/bin/sh' 'set -eu' \
    'cd /run/secrets 2>/dev/null || cd /' \
    'set -a' \
    'if [ -f pip.env ]; then . ./pip.env; fi' \
    'if [ -f pip.conf ]; then PIP_CONFIG_FILE=$PWD/pip.conf; fi' \
    'if [ -f certificates ]; then PIP_CERT=$PWD/certificates SSL_CERT_FILE=$PWD/certificates; fi' \
    '/opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile -r "$1"' \
    'cd /opt/venv/lib/python3*/site-packages' \
    'echo /opt/app > app.pth' \
    'rm -rf kubernetes/aio' \
    '/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib' \
    > /opt/install && chmod 0755 /opt/install

FROM installer AS webhook-venv
COPY --from=requirements /webhook.txt /
RUN --mount=type=secret,id=pip.env --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    /opt/install /webhook.txt

FROM installer AS controller-venv
COPY --from=requirements /controller.txt /
RUN --mount=type=secret,id=pip.env --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    /opt/install /controller.txt

# Microsoft's ODBC driver comes as a wheel whose licence you accept by asking for it; of its builds one is kept.
FROM installer AS provisioner-job-venv
ARG ACCEPT_MICROSOFT_ODBC_EULA=no
COPY --from=requirements /job.txt /
RUN --mount=type=secret,id=pip.env --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    if [ "${ACCEPT_MICROSOFT_ODBC_EULA}" = yes ]; then echo 'mssql-python-odbc>=18.6' >> /job.txt; fi; \
    /opt/install /job.txt \
    && rm -rf /opt/venv/lib/python3*/site-packages/mssql_python_odbc/libs/linux/rhel \
              /opt/venv/lib/python3*/site-packages/mssql_python_odbc/libs/linux/suse

FROM installer AS webhook-app
COPY api /opt/app/api
COPY policy /opt/app/policy
COPY kube /opt/app/kube
COPY webhook /opt/app/webhook
RUN chmod -R a+rX /opt/app && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app

FROM installer AS controller-app
COPY api /opt/app/api
COPY policy /opt/app/policy
COPY kube /opt/app/kube
COPY controller /opt/app/controller
RUN chmod -R a+rX /opt/app && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app

FROM installer AS provisioner-job-app
COPY api /opt/app/api
COPY provisioner_job /opt/app/provisioner_job
RUN chmod -R a+rX /opt/app && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app

# Some Python images come without .pyc files; on a read-only root every start would compile the standard library.
FROM ${BASE_IMAGE} AS runtime
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(tests?|idlelib|lib2to3|site-packages)/' \
    "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')"
ARG VERSION=0.0.0
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532

FROM runtime AS webhook
LABEL org.opencontainers.image.title="Kubernetes DBaaS webhook" \
      org.opencontainers.image.description="Admission: defaults, policy and the requester's stamp for databases."
COPY --from=webhook-venv /opt/venv /opt/venv
COPY --from=webhook-app /opt/app /opt/app
ENTRYPOINT ["/opt/venv/bin/python", "-P", "-m", "webhook"]

FROM runtime AS controller
LABEL org.opencontainers.image.title="Kubernetes DBaaS controller" \
      org.opencontainers.image.description="Turns each requested database into an Operation and its Job."
COPY --from=controller-venv /opt/venv /opt/venv
COPY --from=controller-app /opt/app /opt/app
ENTRYPOINT ["/opt/venv/bin/python", "-P", "-m", "controller"]

FROM runtime AS provisioner-job
LABEL org.opencontainers.image.title="Kubernetes DBaaS provisioner job" \
      org.opencontainers.image.description="Runs one stored procedure over verified TLS and writes its Secret."
# ODBC for SQL Server: FreeTDS always; what Microsoft's driver needs besides, where its licence was accepted.
ARG ACCEPT_MICROSOFT_ODBC_EULA=no
USER 0
RUN microsoft= \
    && if [ "${ACCEPT_MICROSOFT_ODBC_EULA}" = yes ]; then microsoft='libkrb5-3 libgssapi-krb5-2 libltdl7'; fi \
    && mkdir -p /var/log/apt && apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends tdsodbc libodbc2 ${microsoft} \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc/* /usr/share/man/*
USER 65532:65532
COPY --from=provisioner-job-venv /opt/venv /opt/venv
COPY --from=provisioner-job-app /opt/app /opt/app
ENTRYPOINT ["/opt/venv/bin/python", "-P", "-m", "provisioner_job"]
