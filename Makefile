# What a person types. On Debian 12, root, git and make are enough: what else is needed is installed by the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
ARGS ?=
ENGINE ?= postgresql
BIN := .venv/bin
export PYTHON

.PHONY: help
help: ## Say what can be typed here
	@echo 'make TARGET…'
	@echo
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@echo
	@echo 'ARGS="…" goes to pytest with the test targets, and to the bench: make test-unit ARGS="-k redact"'
	@echo 'DBAAS_CLUSTER=existing uses the cluster of $$KUBECONFIG instead of a node of its own: docs/sysadmin.md'

.PHONY: demo
demo: python $(filter postgresql mariadb,$(ENGINE)) ## Show the whole path on a real Kubernetes and a real PostgreSQL; ENGINE=mariadb: on a MariaDB
	@$(BIN)/python -m tests.demo $(ENGINE)

.PHONY: demo-down
demo-down: python ## Take away what the demo left behind: its namespace, its endpoints, its servers
	@$(BIN)/python -m tests.demo down

.PHONY: lint
lint: python ## Check format, style, types and imports; silent when all is well
	@fine=yes; \
	$(BIN)/ruff format --quiet --diff . || fine=; \
	$(BIN)/ruff check --quiet . || fine=; \
	$(BIN)/mypy --no-error-summary || fine=; \
	imports=$$($(BIN)/lint-imports 2>&1) || { echo "$$imports"; fine=; }; \
	[ "$$fine" ]

.PHONY: format
format: python ## Put the code into the form that lint asks for
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

.PHONY: test
test: python postgresql mariadb odbc ## Run every test: unit, integration (real servers), e2e (real Kubernetes)
	@$(BIN)/python -m tests.suite unit integration e2e -- $(ARGS)

.PHONY: test-unit
test-unit: python ## Run the tests that need nothing but Python
	@$(BIN)/python -m tests.suite unit -- $(ARGS)

.PHONY: test-integration
test-integration: python postgresql mariadb odbc ## Run the tests against a real PostgreSQL, MariaDB and API server, and a SQL Server double
	@$(BIN)/python -m tests.suite integration -- $(ARGS)

.PHONY: test-e2e
test-e2e: python postgresql mariadb ## Run the tests of the installed chart on a real node
	@$(BIN)/python -m tests.suite e2e -- $(ARGS)

.PHONY: soak
soak: python postgresql mariadb odbc ## Run what takes minutes: kill and fault matrices, thousands of cases; SEED=… repeats one
	@$(BIN)/python -m tests.suite soak -- $(ARGS)

.PHONY: bench
bench: python postgresql ## Measure, as ratios to what the same cluster does by itself
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: cluster-up
cluster-up: python ## Bring up the node that the demo and the tests use
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-status
cluster-status: python ## Say what of the node runs and what is missing
	@$(BIN)/python -m tests.cluster status

.PHONY: cluster-down
cluster-down: python ## End the node and take away all that it made on this machine; the cache stays
	@$(BIN)/python -m tests.cluster down

.PHONY: python
python:
	@.ci/setup python

.PHONY: postgresql mariadb odbc
postgresql mariadb odbc:
	@.ci/setup $@
