# make demo    a month of a vendor's business, played on real parts     (ONCE=1: end after the table)
# make test    every check, then every test
# make lint    the checks alone
# make bench   the figures: bench/latest.json
# make clean   remove what these made: packages, database, caches
#
# Needs Python >= 3.11, make and the package index that pip uses. Everything else is set up here.

PYTHON ?= python3
UV_VERSION := 0.13.8
TOOLS := .tools
BIN := .venv/bin

# These targets work on a development installation, even when they are given a database.
export RUNLEDGER_DEVELOPMENT ?= 1
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= copy
# The certificates that the machine trusts, as pip and curl do: a proxy or mirror may have its own.
export UV_SYSTEM_CERTS ?= true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1

# A process for each core, each with a database of its own; a file's tests stay together, in order.
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench clean packages chromium

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: packages
	@$(BIN)/python manage.py demo $(if $(filter 1,$(ONCE)),--once)

test: lint chromium
	@echo "test: running the tests"
	@$(BIN)/python -m pytest $(IN_PARALLEL)

lint: packages
	@echo "lint: ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "lint: ruff format"
	@$(BIN)/ruff format --quiet --check .
	@echo "lint: mypy"
	@$(BIN)/mypy --no-error-summary .
	@echo "lint: import contracts"
	@$(BIN)/lint-imports --no-logo > .import-contracts.log 2>&1 || { cat .import-contracts.log; exit 1; }
	@echo "lint: migrations"
	@$(BIN)/python manage.py makemigrations --check --dry-run --verbosity 0 \
	  || { echo "lint: models have changed: run manage.py makemigrations"; exit 1; }

bench: packages
	@$(BIN)/python -m bench

clean:
	@echo "clean: removing packages, database, caches"
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m config.embedded.erase; fi
	@rm -rf .venv $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache staticfiles \
	  .import-contracts.log

packages: .venv/synced

# Only when the lock changed, or the environment is not there.
.venv/synced: pyproject.toml uv.lock $(TOOLS)/uv-$(UV_VERSION)
	@echo "packages: installing what uv.lock says into .venv"
	@$(TOOLS)/bin/uv sync --frozen --quiet --python "$$($(TOOLS)/bin/python -c 'import sys; print(sys._base_executable)')"
	@touch $@

$(TOOLS)/uv-$(UV_VERSION):
	@command -v $(PYTHON) > /dev/null \
	  || { echo "packages: there is no $(PYTHON): install Python 3.11 or later, or name one by make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "packages: $(PYTHON) is older than 3.11: name a later one by make PYTHON=..."; exit 1; }
	@echo "packages: installing uv $(UV_VERSION) into $(TOOLS)"
	@rm -rf $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS) \
	  || { echo "packages: $(PYTHON) cannot make environments: install its venv module (python3-venv)"; exit 1; }
	@$(TOOLS)/bin/python -m pip install --quiet uv==$(UV_VERSION) \
	  || { echo "packages: pip cannot install uv $(UV_VERSION): is the package index reachable?"; exit 1; }
	@touch $@

chromium: packages
	@.ci/chromium
