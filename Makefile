# One command each; every target does its own set-up. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER ?= .peer
MODEL ?=
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix interop bench docs clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## Make the virtual environment

demo: $(READY) ## A worker, a frontend with nothing but a cache, one chat (MODEL=dir to use your own)
	@$(BIN)/muster demo $(if $(MODEL),--model-path "$(MODEL)")

test: $(READY) ## All tests that need no peer
	@$(BIN)/pytest -q -n 2 tests --ignore tests/interop --ignore tests/chaos
	@$(BIN)/pytest -q tests/chaos -o log_cli=true --log-cli-level=INFO

check: $(READY) ## Lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(READY) ## Format, and mend what can be mended
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

interop: $(READY) ## The same wire, with a real ai-dynamo on the other end (installed into PEER)
	@PEER=$(PEER) $(BIN)/python -m tests.interop.install
	@PEER=$(PEER) $(BIN)/pytest -q tests/interop

bench: $(READY) ## Short form of every benchmark, beside the peer; BENCH=--full for all rounds
	@PEER=$(PEER) $(BIN)/python benchmarks/run.py $(BENCH)

docs: $(READY) ## Write docs/reference from the code, the pages of figures from benchmarks/results
	@$(BIN)/python -m muster.cli.reference docs/reference
	@$(BIN)/python benchmarks/page.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
