# Everything a newcomer needs: `make serve` and `make test`. Each target installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-virtualenv

.PHONY: install serve test test-all test-faults fuzz check format bench lock clean

install: $(INSTALLED)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sessiond needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml requirements.lock
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements-dev.lock
	$(PIP) --require-hashes --requirement requirements-dev.lock
	touch $@

serve: $(INSTALLED)
	$(BIN)/sessiond serve $(ARGS)

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The same over every combination of sandboxes, worker classes and versions of clients, and with two
# processes over one PostgreSQL in place of each gateway.
test-all: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not faults"
	TEST_TWO_PROCESSES=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/acceptance

# Faults again and again, over every store and worker class; takes about an hour.
test-faults: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m faults

# Requests made up from /openapi.json; FUZZ_EXAMPLES of each kind for each operation.
fuzz: $(INSTALLED_DEV)
	$(BIN)/python -m pytest tests/acceptance/fuzz_http.py

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED_DEV)
	$(BIN)/python -m benchmarks

# Needs uv; the files name no registry host, so any mirror serves.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --output-file requirements.lock --group pyproject.toml:build pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --constraint requirements.lock --output-file requirements-dev.lock --group pyproject.toml:dev pyproject.toml

clean:
	rm -rf $(VENV)
