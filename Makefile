# Every target that needs Python makes its own environment in $(VENV) first and leaves the system's Python alone.
#   PYTHON=python3.12   the Python to make it with (default: the first suitable one of python3, python3.13, .12, .11)
#   VENV=/some/folder   where it stands; one that exists already is used as it is

PYTHON ?=
VENV ?= .venv
# More arguments for pytest: make test ARGS="-k simulator -x"
ARGS ?=
# Processes that run the tests: as many as there are cores, at most 8 (each takes about 0.6 GB); JOBS=0 for none but
# pytest's own, as a debugger needs it. Each starts with its share of the files and takes over others' when it is done.
JOBS ?= auto
DIST ?= dist
SITE ?= site

SHELL := /bin/sh
BIN := $(VENV)/bin
# constraints.txt keeps pip from a newer torch: see there.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LINKS := metarl/envs metarl/policies metarl/videos

.DEFAULT_GOAL := help
.PHONY: help demo install test lint format docs links wheel clean distclean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## Install into .venv, then train, adapt and record a short demonstration
	$(BIN)/metarl demo

install: $(VENV)/.installed ## Install into .venv, editable: .venv/bin/metarl

test: $(VENV)/.installed-test ## Run all tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev links ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Repair style and formatting where it can be done automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs links ## Build the documentation site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir $(SITE)
	@echo "site: $(SITE)/index.html"

links: $(LINKS) ## Link metarl/envs to envs and so on, for type checkers and editors

$(LINKS): metarl/%:
	@[ -L $@ ] || ln -s ../$* $@

wheel: $(VENV)/.installed ## Build dist/metarl-*.whl
	@rm -rf build # setuptools would pack modules that are deleted meanwhile and lie there
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(DIST) .
	@rm -rf build

clean: ## Remove build output and caches; keeps .venv, runs and videos
	rm -rf build dist site metarl.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(LINKS) MUJOCO_LOG.TXT
	find metarl envs policies videos tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## The same, and .venv
	rm -rf .venv

# Each stamp installs one set of dependencies; it is older than pyproject.toml or constraints.txt when they changed.

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing metarl into $(VENV) (about 1.3 GB)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing metarl and its test tools into $(VENV) (about 1.4 GB)"
	$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing metarl and its development tools into $(VENV) (about 1.5 GB)"
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing metarl and what builds its documentation into $(VENV) (about 1.4 GB)"
	$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.installed

# A candidate is suitable if it is new enough and can make an environment with pip in it; Debian and Ubuntu ship
# Python without ensurepip. An environment that exists already is kept if it has a suitable Python and pip.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
HAS_VENV := import ensurepip, venv

$(VENV)/.created:
	@if $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		touch $@; exit 0; \
	fi; \
	if [ -e "$(BIN)/python" ] && ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		echo "error: $(VENV) has no working Python 3.11 or newer. Remove it, or choose another: make VENV=.venv311" >&2; \
		exit 1; \
	fi; \
	old=; bare=; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		version=$$("$$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue; \
		if ! "$$python" -c '$(NEW_ENOUGH)'; then old="$$old $$python is $$version."; continue; fi; \
		if ! "$$python" -c '$(HAS_VENV)' 2>/dev/null; then bare="$${bare:-$$python}"; continue; fi; \
		echo "making $(VENV) with $$python ($$version)"; \
		"$$python" -m venv "$(VENV)" || exit 1; \
		touch $@; exit 0; \
	done; \
	if [ -n "$$bare" ]; then \
		echo "error: $$bare cannot make a virtual environment: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv (or the one for your version: python3.12-venv)" >&2; \
	else \
		echo "error: metarl needs Python 3.11 or newer; found none as $(or $(PYTHON),python3 python3.13 python3.12 python3.11).$$old" >&2; \
		echo "Install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; \
	fi; \
	exit 1
