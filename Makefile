# `make` alone lists the targets. Everything lives in .venv and .demo; the machine is left as it was, save that as
# root `make setup` and `make test` install Debian packages that are missing (scripts/setup.sh, scripts/services.sh).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.headway-ready

# More arguments for pytest: make test ARGS="tests/unit -k spec"
ARGS ?=
# Parallel test processes; 0 runs all in one.
WORKERS ?= auto

.PHONY: help
help: ## List the targets
	@echo "Headway publishes a model as a production REST API. Try: make demo"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV)
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything locked in requirements.lock
	@echo "$(VENV) is up to date"

.PHONY: demo
demo: $(STAMP) ## Train a model, publish it, send it real rows, leave it running
	@$(BIN)/python scripts/demo.py up

.PHONY: demo-down
demo-down: $(STAMP) ## Stop what `make demo` left running
	@$(BIN)/python scripts/demo.py down

.PHONY: test
test: $(STAMP) ## Run the tests (ARGS="tests/unit -k spec" for some of them)
	@scripts/services.sh
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: test-cluster
test-cluster: $(STAMP) ## Run the tests on the cluster that KUBECONFIG names (ARGS="--cluster-image IMAGE", see docs)
	@$(BIN)/python -m pytest -n 0 --cluster -m cluster tests $(ARGS)

.PHONY: check
check: $(STAMP) ## Style, types, room boundaries, house rules, documentation
	@scripts/check.sh $(BIN)

.PHONY: format
format: $(STAMP) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(STAMP) ## Run every benchmark in benchmarks/ (minutes)
	@$(BIN)/python scripts/bench.py $(ARGS)

.PHONY: bench-server
bench-server: $(STAMP) ## Measure the model server beside its peers; writes docs/benchmarks.md (25 minutes)
	@$(BIN)/python -m benchmarks.server $(ARGS)

.PHONY: bench-querylog
bench-querylog: $(STAMP) ## Ask the query log of 50 million records beside a query by hand (10 minutes the first time)
	@$(BIN)/python benchmarks/query_log_queries.py $(ARGS)

.PHONY: docs
docs: $(STAMP) ## Build the documentation into site/; fails on a missing page or a broken link
	@$(BIN)/python scripts/check_docs.py
	@$(BIN)/zensical build --clean --strict

.PHONY: lock
lock: $(STAMP) ## Resolve requirements.lock again (UPGRADE=1 takes newer versions)
	@$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --generate-hashes --python-version 3.11 \
	  --group dev --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Remove everything that was built; refuses while the demo runs
	@scripts/clean.sh
