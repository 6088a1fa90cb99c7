# torchplace: `make demo` and `make test` are all that a newcomer needs. `make help` lists the rest.
#
# Every target sets up what it needs in .venv, once: a stamp for each set of packages stands in .venv/.stamps
# and is renewed when pyproject.toml or constraints.txt change. Needed: Python 3.11 or newer, and make.
#
#   PYTHON=...  the interpreter that makes .venv (run `make clean` first to change it)
#   ARGS=...    more arguments: make test ARGS="tests/compiler", make demo ARGS="--help"
#
# Which build of torch: constraints.txt pins the release, not the build. On Linux pip's default index serves a
# CUDA build of several GB. The CPU build is enough for all that is here: to take it, set PIP_EXTRA_INDEX_URL
# (or PIP_INDEX_URL) to the CPU index that PyTorch's install page names, or PIP_FIND_LINKS to a folder with the
# wheel. pip reads these variables and its own configuration files; nothing here overrides them.

VENV   := .venv
STAMPS := $(VENV)/.stamps
PY     := $(VENV)/bin/python
DEPS   := pyproject.toml constraints.txt
ARGS   ?=

# The first interpreter on the path that is new enough; `python3` in the error message if there is none.
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(firstword $(shell for p in $(CANDIDATES); do \
	$$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done) python3)
endif

# Every module of benchmarks/ whose name does not start with an underscore.
BENCHMARKS := $(patsubst %.py,benchmarks.%,$(notdir $(filter-out benchmarks/_%,$(sort $(wildcard benchmarks/*.py)))))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format bench docs clean

help: ## list the targets
	@echo "make TARGET [ARGS=\"...\"] [PYTHON=python3.11]"
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1	/' | \
		while IFS='	' read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

demo: $(STAMPS)/demo ## GPT-2: compare the solvers, then run it on two CPU devices
	@$(PY) -m examples.demo $(ARGS)

test: $(STAMPS)/test ## run the tests
	@$(PY) -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(STAMPS)/lint ## check style, types, and the direction of imports
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(STAMPS)/lint ## let ruff mend what it can
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: $(STAMPS)/demo ## run every benchmark (minutes; leave the machine alone meanwhile)
	@set -e; for b in $(BENCHMARKS); do echo "==> python -m $$b"; $(PY) -m $$b $(ARGS); done

docs: $(STAMPS)/docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean: ## remove everything that make made, .venv too
	rm -rf $(VENV) build dist site *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ---------------------------------------------------------------------------------------------------

# An environment remembers its own path, so a checkout that was moved or copied needs a new one.
HERE := $(CURDIR)
MADE := $(shell test -x $(PY) && cat $(VENV)/.made-for 2>/dev/null)
ifneq ($(MADE),$(HERE))
.PHONY: $(STAMPS)/venv
endif

$(STAMPS)/venv:
	@echo "==> Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c '' 2>/dev/null || { \
		echo "No Python found as '$(PYTHON)'. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "$(PYTHON) is `$(PYTHON) --version 2>&1`; torchplace needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks the modules venv and ensurepip, which make a virtual environment."; \
		echo "Debian and Ubuntu ship them in python3-venv (apt install python3-venv); or: make PYTHON=/path/to/another/python3"; exit 1; }
	@if test -e $(VENV)/.made-for; then rm -rf $(VENV); fi
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@echo "$(HERE)" > $(VENV)/.made-for
	@touch $@

# Built without isolation: setuptools comes first, pinned as the rest is, and nothing is downloaded twice.
$(STAMPS)/base: $(STAMPS)/venv $(DEPS)
	@echo "==> Installing the build tool"
	@$(PY) -m pip install --quiet -c constraints.txt setuptools
	@touch $@

$(STAMPS)/%: $(STAMPS)/base
	@echo "==> Installing torchplace for '$*': PyTorch is large, the first time may take minutes"
	$(PY) -m pip install -c constraints.txt --no-build-isolation -e '.[$*]'
	@touch $@
	@echo "==> Ready: '$*'"
