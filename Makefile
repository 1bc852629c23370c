# One command per kind of work. `make help` lists them; every target sets up what it needs.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# uv resolves and installs in seconds where pip takes an hour on this set; it is fetched when missing.
UV := $(shell command -v uv || echo .uv/bin/uv)
# Two test processes on two cores: one compute thread each.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
PYTEST := $(TEST_ENV) $(BIN)/pytest
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -q

##@ Start

help: ## Show this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*##/ {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv, from the locked and hashed requirements

demo: $(STAMP) ## Run the whole loop on this machine with simulated data: a verdict within minutes
	$(BIN)/align demo

##@ Check

test: lint ## Everything but cluster and GPU: lint, unit, faults, integration
	$(PYTEST) -n 2 --dist worksteal --durations=15

test-fast: $(STAMP) ## The inner loop: unit tests that take no time
	$(PYTEST) -n 2 --dist worksteal -q -m "not slow" tests/unit

lint: $(STAMP) ## ruff, mypy strict, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.crdgen --check
	$(BIN)/python -m tools.docsgen --check
	$(BIN)/python -m tools.dashboards --check

##@ Change

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

crds: $(STAMP) ## Generate crds/ from api/
	$(BIN)/python -m tools.crdgen

lock: $(UV) ## Resolve the dependencies anew and write the hashed requirements
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra operator -c requirements/dev.txt -o requirements/operator.txt
	$(LOCK) pyproject.toml --extra trainer -c requirements/dev.txt -o requirements/trainer.txt
	printf 'uv\nhatchling\n' | $(LOCK) - -c requirements/dev.txt -o requirements/build.txt

##@ Clean

clean: ## Remove the environment and caches of the tools
	rm -rf $(VENV) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache site

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet 'uv>=0.9'

$(STAMP): requirements/dev.txt pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Targets of one area each: benchmarks, the cluster, the documentation.
include $(sort $(wildcard tools/make/*.mk))

.PHONY: help setup demo test test-fast lint format crds lock clean
