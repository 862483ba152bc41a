# make run    train the example network          make check   format, lint, types, tests
# make test   run the tests                      make format  rewrite the sources in style
# make coverage  run the tests, and show the lines that they do not reach
# make browser  fetch the headless browser of one test with npm, where that is installed
# make docs   build the documentation site, site/index.html, and check its links
# make test-newest  ladder, example network and a resume with the newest releases (Python >= 3.12)
# make results-check  run again what figures of the pages say, and compare (ten minutes on two cores)
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN  := $(VENV)/bin
# Python compiles what it imports; all that is installed would take 180 MB more, and half the time.
PIP  := -m pip install --quiet --quiet --disable-pip-version-check --no-compile
# What the tests use; the main job needs none of them.
EXTRAS := dev,data,brainscale,pandas,audio,speech,aedat,nir,readers,neurobench,tensorboard
CODE := src tests $(wildcard tasks examples docs/_site docs/notebooks docs/results)

.DEFAULT_GOAL := help
.PHONY: help browser run test test-slow test-newest newest coverage results-check check format format-check lint types docs clean

help:
	@sed -n '1,7s/^# //p' Makefile

# ---------------------------------------------------------------- environment
# A stamp is newer than what it was made from, so a second `make` installs nothing.

$(BIN)/python:
	$(if $(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),,\
	  $(error snnlab needs Python 3.11 or newer, "$(PYTHON)" is not; set PYTHON=/path/to/python3.11))
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing snnlab into $(VENV) (some minutes the first time)"
	@$(BIN)/python $(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing snnlab and its development tools into $(VENV) (some minutes the first time)"
	@$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what builds the documentation into $(VENV)"
	@$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[docs]'
	@touch $(VENV)/.installed $@

# ---------------------------------------------------------------- commands

run: $(VENV)/.installed
	@$(BIN)/python tasks/task-image-classification.py --method expsm_diag $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m slow $(ARGS)

# The first that runs, of the path or of pyenv.
NEWEST_PYTHON ?= $(shell for p in python3.13 python3.12 ~/.pyenv/versions/3.1[23].*/bin/python; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo "$$p" && break; done)
NEWEST := .venv-newest

test-newest:
	@$(if $(NEWEST_PYTHON),$(MAKE) --no-print-directory newest NEWEST_PYTHON=$(NEWEST_PYTHON),\
	  echo "test-newest: skipped, there is no Python 3.12 or 3.13; set NEWEST_PYTHON=/path/to/it")

newest: $(NEWEST)/.installed
	@$(NEWEST)/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	  tests/learners/test_ladder.py tests/learners/test_brainscale.py tests/test_resume.py $(ARGS)
	@$(NEWEST)/bin/python tasks/task-image-classification.py --method expsm_diag

$(NEWEST)/.installed: pyproject.toml constraints-newest.txt
	@echo "installing snnlab and the newest releases into $(NEWEST) (some minutes the first time)"
	@$(NEWEST_PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python $(PIP) --constraint constraints-newest.txt --editable '.[test,nir]'
	@touch $@

# Chromium for tests/report/test_browser.py, from npm's registry; without it that test is skipped.
BROWSER := @sparticuz/chromium@153.0.0

browser: $(VENV)/.browser

$(VENV)/.browser: | $(BIN)/python
	@{ command -v npm >/dev/null && npm install --silent --no-save --no-audit --no-fund \
	  --ignore-scripts --prefix $(VENV)/browser $(BROWSER) && touch $@; } || \
	  echo "browser: skipped, npm did not install $(BROWSER)"

coverage: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

# Commands as a user has them; SNNLAB_TEST_DATA is the folder of recordings, ARGS="--list" says what is run.
results-check: $(VENV)/.installed
	@$(BIN)/python docs/results/check.py $(ARGS)

# One after the other, also under `make -j`: pytest's summary is the last line.
check: $(VENV)/.installed-dev browser
	@$(MAKE) --no-print-directory format-check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test-newest
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

# mkdocs reads the sources and imports nothing; the notebooks are run (NOTEBOOKS=0: not). A broken link
# or docstring ends it (not with --quiet, which drops the warnings before --strict counts them).
docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)
	@echo "site/index.html; with search: $(BIN)/python -m http.server --directory site"

clean:
	rm -rf $(VENV) $(NEWEST) .coverage build dist site .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
