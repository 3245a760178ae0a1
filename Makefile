# Needs Python 3.11 or later and make; everything else is installed into .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What `make prove` runs; CAMPAIGNS=prove leaves out the faults that `make test` has run.
CAMPAIGNS ?= prove or fault

.PHONY: demo test check prove bench lint docs clean

demo: $(READY)  ## the main job on a sample, in ./demo
	rm -rf demo
	$(BIN)/panicdb demo demo

test: $(READY)  ## lint, types and all tests but the long campaigns (under 8 minutes)
	$(MAKE) lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not prove"

check: $(READY)  ## the quick subset (under 2 minutes)
	$(MAKE) lint
	$(BIN)/pytest -n 2 --dist worksteal -m "quick and not prove"

prove: $(READY)  ## the long campaigns, and every row of the fault matrix
	$(BIN)/pytest -n 2 --dist worksteal -m "$(CAMPAIGNS)"

bench: $(READY)  ## speed and memory beside hand-written SQL and others
	$(BIN)/python bench/run.py

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

docs: $(READY)  ## write docs/cli.md anew from --help
	$(BIN)/python docs/write_cli.py

clean:
	rm -rf demo dist build bench/work tests/apps/work .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $(READY)
