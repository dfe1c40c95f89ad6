# make run: both tasks; make test: the tests; make test-slow: a full training; make lint.
# make test-torch: the tests beside PyTorch itself, which no other command installs.
# Everything is installed into .venv, from constraints.txt; no network is needed for data.
# After it, `. .venv/bin/activate` makes that Python the shell's.
# With another Python, PYTHON=python3.13, into .venv-python3.13.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-torch test-slow lint clean

run: $(VENV)/run
	$(BIN)/python launch.py --task=backprop --lrs=0.1,0.2,0.5,0.8,1.0,2.0
	$(BIN)/python launch.py --task=mnist

test: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

test-torch: $(VENV)/torch
	$(BIN)/python -m pytest -m torch --numprocesses=auto --dist=worksteal

test-slow: $(VENV)/test
	$(BIN)/python -m pytest -m "slow and not torch"

lint: $(VENV)/lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))

$(VENV)/python:
	@found=$$($(PYTHON) -c '$(VERSION)' 2>/dev/null) || { echo "Python 3.11 or newer is needed," \
	  "and $(PYTHON) is $${found:-no Python}: name another, such as make run PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/run: $(VENV)/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/test: $(VENV)/run
	$(INSTALL) --editable ".[tests]"
	touch $@

$(VENV)/torch: $(VENV)/test
	$(INSTALL) --editable ".[tests,torch]"
	touch $@

$(VENV)/lint: $(VENV)/run
	$(INSTALL) --editable ".[lint]"
	touch $@

clean:
	rm -rf .venv .venv-* *.egg-info
