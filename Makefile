# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
SERVE ?= 1
PORT ?= 7860

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: demo test test-all lint fix bench docs leaderboard clean

demo: $(VENV)/.user  ## score three methods on the embedded track, print the table, serve the leaderboard
	$(BIN)/mergebench demo --port $(PORT) $(if $(filter 0,$(SERVE)),--no-serve)

leaderboard: $(VENV)/.user  ## serve what was measured so far
	$(BIN)/mergebench leaderboard --port $(PORT)

test: $(VENV)/.developer  ## the quick tests, about ten minutes
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.developer  ## every test, about an hour
	$(BIN)/python -m pytest

lint: $(VENV)/.developer  ## style, types, import walls, stale pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/build.py --check

fix: $(VENV)/.developer  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.developer  ## write the generated pages anew
	$(BIN)/python docs/build.py

bench: $(VENV)/.user $(VENV)-mergekit/.ready  ## time merges against reading and writing, and against mergekit
	MERGEKIT_PYTHON=$(VENV)-mergekit/bin/python $(BIN)/python benchmarks/merging.py

clean:  ## remove the environment and caches
	rm -rf $(VENV) $(VENV)-mergekit .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.user: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mergebench needs Python 3.11 or newer: install it, or set PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mergebench needs Python 3.11 or newer, $(PYTHON) is older: set PYTHON=/path/to/python"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[run,board]'
	touch $@

$(VENV)/.developer: $(VENV)/.user
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[run,board,train,mergekit,dev]'
	touch $@

$(VENV)-mergekit/.ready:
	$(PYTHON) -m venv $(VENV)-mergekit
	$(VENV)-mergekit/bin/pip install --quiet mergekit==0.1.5 torch==2.13.0
	touch $@
