# Two commands do everything: 'make book' and 'make test'. 'make help' lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
CLI := $(BIN)/functional-self
export FUNCTIONAL_SELF_ROOT := $(CURDIR)
# nothing here may phone home; a hub is used only where a subject asks for one
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help book html pdf student slides session reproduce test test-ndif lint acceptance bench environment subject debian clean clean-environment
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

book: environment subject ## re-execute every chapter at the quick preset, compare with the published runs, render the book
	said=0; $(CLI) reproduce || said=$$?; [ $$said -le 1 ] || exit $$said; $(CLI) build; exit $$said

html: environment ## render the book from the published runs, executing nothing
	$(CLI) build

pdf: environment debian ## the whole book as one PDF, printed by Chromium from the built pages: _build/book.pdf
	$(CLI) pdf

student: environment ## the exercises as notebooks without solutions, in _build/student
	$(CLI) student

slides: environment ## slides and handouts of every session from the published runs, in _build/slides
	$(CLI) slides

session: environment ## what one meeting needs: slides, handout, student notebooks; SESSION=1 in _build/session-1
	$(CLI) session $(or $(SESSION),1)

reproduce: environment subject ## re-execute every chapter at the quick preset and compare
	$(CLI) reproduce

test: environment subject debian .venv/bench/.complete .venv-ndif/.complete ## linters, types, unit tests, chapter smoke run, book build, browser and kill tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --no-loadscope-reorder

test-ndif: environment subject debian .venv-ndif/.complete ## only the tests on a live NDIF server of their own (redis, moto, Ray, the api)
	$(BIN)/python -m pytest tests/ndif

lint: environment ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

acceptance: environment subject debian .venv-ndif/.complete ## the full repetition counts; writes a dated report into benchmarks/acceptance/
	FUNCTIONAL_SELF_ACCEPTANCE=1 $(BIN)/python -m pytest -m acceptance

bench: environment subject .venv/bench/.complete ## benchmarks beside peers; BENCH=scoring runs one family, JSON=FILE keeps the lines
	$(CLI) bench $(BENCH) $(if $(JSON),--to $(JSON))

# what the benchmarks compare with stands beside the environment, which stays as locked
.venv/bench/.complete: benchmarks/requirements.lock .venv/.complete
	@rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(@D) --requirement benchmarks/requirements.lock
	@touch $@

environment: .venv/.complete ## the virtual environment, exactly as requirements.lock says

.venv/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "make: Python 3.11 is needed; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "make: this Python has no venv; on Debian run: apt-get install python3.11-venv" >&2; exit 2; }
	@rm -f $@
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv-ndif/.complete: tests/ndif/requirements.lock # the server's own environment: about 1.7 GB, two minutes
	@rm -f $@
	$(PYTHON) -m venv .venv-ndif
	.venv-ndif/bin/python -m pip install --quiet --requirement $<
	.venv-ndif/bin/python -m pip install --quiet --no-deps --ignore-requires-python ndif==0.1.2
	@touch $@

subject: environment ## fetch, check and convert the default subject once
	@$(CLI) subjects --fetch smollm2 >/dev/null

debian: ## Debian packages of the tests (chromium, redis-server, poppler-utils): installed when root, otherwise the command is named
	@missing=""; for package in chromium:chromium redis-server:redis-server pdfinfo:poppler-utils; do \
	  command -v $${package%:*} >/dev/null || missing="$$missing $${package#*:}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null; \
	else echo "make: the tests need Debian packages; run: sudo apt-get install$$missing" >&2; exit 2; fi

clean: ## remove the built book, scratch folders and runs that are not published
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	git clean -fdXq runs 2>/dev/null || true

clean-environment: ## remove the virtual environments
	rm -rf .venv .venv-ndif
