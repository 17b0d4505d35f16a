# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test lint bench interop model clean

help:
	@echo "make demo     follow a growing object, on this machine alone, in 20 s (FILE=... for your own file)"
	@echo "make test     all tests"
	@echo "make lint     ruff and mypy --strict"
	@echo "make bench    the benchmarks of docs/benchmarks.md"
	@echo "make model    the random-action model test, ten million steps"

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("oss-tail needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python demo.py $(if $(FILE),--file '$(FILE)')

test: $(READY)
	$(BIN)/python -m pytest -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

model: $(READY)
	MODEL_STEPS=10000000 $(BIN)/python -m pytest -q --timeout=0 tests/model

bench: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
