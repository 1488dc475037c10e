# Every target makes .venv first if it is not there or the requirements have changed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
WEB_PORT ?= 8000
AWS_PORT ?= 4566
POSTGRES_URL ?= postgres://postgres@127.0.0.1:5432/postgres
REDIS_URL ?= redis://127.0.0.1:6379/9
RUNS ?= 5
ONLY ?=
SEED ?= 1
DURATION ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup run test test-services coverage lint format types imports migrations deploy-check template audit check test-browser \
  chaos chaos-mutants bench bench-report bench-profile requirements screenshots clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(VENV)/installed ## Make .venv and install everything into it

$(VENV)/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Blockforger needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: setup ## Start everything on this machine: local AWS, web, worker, consumer
	@$(BIN)/python -m deploy.run_local --web-port $(WEB_PORT) --aws-port $(AWS_PORT)

test: setup ## Run the tests on what needs no server: SQLite, a broker in files, a local AWS
	$(BIN)/pytest -n 3

test-services: setup ## Run the same tests on PostgreSQL and Redis (POSTGRES_URL, REDIS_URL)
	DATABASE_URL=$(POSTGRES_URL) CELERY_BROKER_URL=$(REDIS_URL) $(BIN)/pytest -n 3 $(PYTEST_OPTIONS)

test-browser: setup ## Look at every page of the admin in Chromium
	BLOCKFORGER_REQUIRE_SERVICES=1 $(BIN)/pytest -n 2 tests/browser $(PYTEST_OPTIONS)

coverage: setup ## Run the tests on PostgreSQL and Redis and report what they cover
	$(MAKE) test-services PYTEST_OPTIONS='--cov --cov-report=term'

lint: setup ## Check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## Check the types
	$(BIN)/mypy

imports: setup ## Check that imports run one way
	$(BIN)/lint-imports

migrations: setup ## Check that no model has changed without a migration
	$(BIN)/python manage.py makemigrations --check --dry-run

deploy-check: setup ## Check the settings of a production set-up
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
	BLOCKFORGER_SITE_URL=https://blockforger.example BLOCKFORGER_ALLOWED_BUS_ARNS='arn:aws:events:*:720291373173:event-bus/*' \
	$(BIN)/python manage.py check --deploy --fail-level WARNING

template: setup ## Check the CloudFormation template
	$(BIN)/cfn-lint deploy/cloudformation.yaml

audit: setup ## Look the dependencies up in the database of known vulnerabilities
	$(BIN)/pip-audit --progress-spinner off --requirement requirements.txt --no-deps --disable-pip

chaos: setup ## Kill everything at random and see whether every promise holds (SEED, DURATION)
	$(BIN)/python -m tests.chaos --seed $(SEED) --duration $(DURATION)

chaos-mutants: setup ## Show that the chaos suite finds planted bugs (ONLY=name for one of them)
	$(BIN)/python -m tests.chaos.mutants $(ONLY)

screenshots: setup ## Draw the pictures of docs/admin.md (needs Chromium)
	$(BIN)/pytest -q tests/browser/screenshots.py

check: lint types imports migrations deploy-check template audit test test-services chaos ## All that CI runs

bench: $(VENV)/installed-bench ## Measure against the peers (ONLY=publish: figures that begin so; RUNS=5; RESUME=1; SCALE=0.1: a trial)
	@$(BIN)/python -m benchmarks --only '$(ONLY)' --runs $(RUNS) $(if $(RESUME),--resume)

bench-report: $(VENV)/installed-bench ## Write docs/performance.md's tables and its plots from the figures
	@$(BIN)/python -m benchmarks.report

bench-profile: $(VENV)/installed-bench ## Draw where the time of a write goes: docs/images/write-path.svg
	@$(BIN)/python -m benchmarks.profile

$(VENV)/installed-bench: setup benchmarks/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

requirements: setup ## Compile requirements*.in to exact versions
	$(BIN)/pip-compile --quiet --strip-extras --upgrade --no-header --no-emit-index-url --no-emit-find-links -o requirements.txt requirements.in
	$(BIN)/pip-compile --quiet --strip-extras --upgrade --no-header --no-emit-index-url --no-emit-find-links -o requirements-dev.txt requirements-dev.in

clean: ## Remove the environment, the local database and all caches
	rm -rf $(VENV) var .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
