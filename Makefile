# make run: both tasks; make test: the tests; make test-slow: a full training; make lint.
# make test-torch: the tests beside PyTorch itself, which no other command installs.
# Everything is installed into .venv, what the .lock files say; no network is needed for data.
# After it, `. .venv/bin/activate` makes that Python the shell's.
# With another Python, PYTHON=python3.12, into .venv-python3.12.
VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
TORCH := torch

.PHONY: run test test-torch test-slow lint lock which clean always

run: $(VENV)/run
	$(BIN)/python launch.py --task=backprop --lrs=0.1,0.2,0.5,0.8,1.0,2.0
	$(BIN)/python launch.py --task=mnist

test: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

test-torch: $(VENV)/test
	$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) --constraint $(VENV)/versions "$(TORCH)"
	$(BIN)/python -m pytest -m torch --numprocesses=auto --dist=worksteal

test-slow: $(VENV)/test
	$(BIN)/python -m pytest -m "slow and not torch"

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# In this order, on the PATH (where pyenv has names that do not start) or among pyenv's own.
VERSIONS := 3.13 3.12 3.14 3.11
FIND := for v in $(VERSIONS); do \
  for python in python$$v "$$(pyenv root 2>/dev/null || echo ~/.pyenv)"/versions/$$v.*/bin/python$$v; do \
    "$$python" -c "import ensurepip, venv" 2>/dev/null && { echo "$$python"; exit; }; done; done; true
VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))
OLD := Python 3.11 has JAX 0.10.1, its last: Python 3.12 or newer brings JAX 0.12, whose convolutions are faster

which:
	@$(FIND)

$(VENV)/python: always
	@python=$(if $(PYTHON),"$(PYTHON)",$$($(FIND))); python="$${python:-python3}"; \
	found=$$("$$python" -c '$(VERSION)' 2>/dev/null) || { echo "Python 3.11 or newer is needed," \
	  "and $$python is $${found:-no Python}: name another, such as make run PYTHON=python3.12" >&2; exit 2; }; \
	has=$$($(BIN)/python -c '$(VERSION)' 2>/dev/null); \
	if [ ! -e $@ ] || [ "$${has%.*}" != "$${found%.*}" ]; then \
	  $(if $(PYTHON),,case $$found in (3.11.*) echo "$(OLD)" ;; esac;) \
	  "$$python" -m venv --clear $(VENV) && touch $@; \
	fi

$(VENV)/versions: $(VENV)/python requirements-tests.lock
	@sed '/^ /d; s/ \\$$//' requirements-tests.lock > $@

# $(call install,LOCK,EXTRAS): first setuptools, which builds the project and what comes as source.
define install
@echo "Installing what $(1) names into $(VENV)"
@awk '/^setuptools==/, !/\\$$/' $(1) > $(VENV)/setuptools.lock
@locked="$(PIP) --require-hashes --no-deps --no-build-isolation --requirement"; \
if { $$locked $(VENV)/setuptools.lock && $$locked $(1); } 2>$(VENV)/refused; \
then $(PIP) --no-deps --no-build-isolation --editable .; \
elif grep --quiet "DO NOT MATCH THE HASHES" $(VENV)/refused; \
then echo "$(1): this index has other files. The same versions are installed, unchecked"; \
  $(PIP) --constraint $(VENV)/versions --editable ".$(2)"; \
else cat $(VENV)/refused >&2; exit 1; \
fi
@touch $@
endef

$(VENV)/run: $(VENV)/versions pyproject.toml requirements.lock
	$(call install,requirements.lock,)

EXTRAS := [tests,lint]
$(VENV)/test: $(VENV)/run requirements-tests.lock
	$(call install,requirements-tests.lock,$(EXTRAS))

# Keeps the versions that are there and fit pyproject.toml; LOCK=--upgrade takes the newest.
LOCK :=
lock: $(VENV)/python
	$(BIN)/python -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet uv
	echo "setuptools>=77" | $(VENV)/uv/bin/uv pip compile pyproject.toml - --extra tests --extra lint $(UNIVERSAL) \
	  $(LOCK) --output-file requirements-tests.lock
	echo "setuptools>=77" | $(VENV)/uv/bin/uv pip compile pyproject.toml - $(UNIVERSAL) \
	  --constraint requirements-tests.lock --output-file requirements.lock
	rm -r $(VENV)/uv
UNIVERSAL := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

clean:
	rm -rf .venv .venv-* *.egg-info
