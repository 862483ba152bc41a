# make run    train the example network          make check   format, lint, types, tests
# make test   run the tests                      make format  rewrite the sources in style
# make coverage  run the tests, and show the lines that they do not reach
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
CODE := src tests $(wildcard tasks examples)

.DEFAULT_GOAL := help
.PHONY: help run test test-slow coverage check format format-check lint types clean

help:
	@sed -n '1,3s/^# //p' Makefile

# ---------------------------------------------------------------- environment
# A stamp is newer than what it was made from, so a second `make` installs nothing.

$(BIN)/python:
	$(if $(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),,\
	  $(error snnlab needs Python 3.11 or newer, "$(PYTHON)" is not; set PYTHON=/path/to/python3.11))
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing snnlab into $(VENV) (some minutes the first time)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing snnlab and its development tools into $(VENV) (some minutes the first time)"
	@$(PIP) --editable '.[dev,speech]'
	@touch $(VENV)/.installed $@

# ---------------------------------------------------------------- commands

run: $(VENV)/.installed
	@$(BIN)/python tasks/task-image-classification.py --method expsm_diag $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-slow: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m slow $(ARGS)

coverage: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term $(ARGS)

# One after the other, also under `make -j`: pytest's summary is the last line.
check: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory format-check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test

format: $(VENV)/.installed-dev
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

format-check: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check $(CODE)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check $(CODE)

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) .coverage build dist .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
