# `make` lists the targets. Everything that is set up lies in this folder: .venv, .cache, .demo.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
# whole files of tests, on as many processes as tests/spreading.py says; SIDE_BY_SIDE= runs one test after the other
SIDE_BY_SIDE ?= -n auto --dist loadfile --no-loadscope-reorder
STORMS ?= -n 2 --dist loadfile -m storms tests/services
# artifacts that the tests fetch, kept between runs: files by sha256, checked whenever they are used
export LAUNCHER_TEST_CACHE ?= $(CURDIR)/.cache/tests

.PHONY: help demo test lint format types fast services bench gpu-check docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{t=$$2; $$1=$$2=""; printf "  make %-9s%s\n", t, $$0}'

demo: $(VENV)/.ready ## set up, run a small real training twice, rebuild its image; no root, no daemon, no account
	@$(BIN)/python examples/demo.py

test: $(VENV)/.ready-dev debian lint types ## everything that must be green: lint, types, fast tests, real services
	@$(PYTEST) -q $(SIDE_BY_SIDE) -m "not alone and not storms" tests/test_*.py tests/services || { failed=$$?; [ $$failed = 1 ] || exit $$failed; }; \
	$(PYTEST) -q $(STORMS) || { failed=$$?; [ $$failed = 1 ] || exit $$failed; }; \
	$(PYTEST) -q -m alone $$(grep -rl --include='test_*.py' 'mark[.]alone' tests) && exit $$failed

lint: $(VENV)/.ready-dev ## ruff, and its formatter
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

format: $(VENV)/.ready-dev ## let ruff format and mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(VENV)/.ready-dev ## mypy --strict
	@$(BIN)/mypy --no-error-summary

fast: $(VENV)/.ready-dev ## the tests that need nothing but Python
	@$(PYTEST) -q -m "not services" tests

services: $(VENV)/.ready-dev debian ## the tests against real services
	@$(PYTEST) -q $(SIDE_BY_SIDE) -m "services and not alone and not storms" tests || { failed=$$?; [ $$failed = 1 ] || exit $$failed; }; \
	$(PYTEST) -q $(STORMS) || { failed=$$?; [ $$failed = 1 ] || exit $$failed; }; \
	$(PYTEST) -q -m "services and alone" tests && exit $$failed

bench: $(VENV)/.ready-dev debian ## side by side with what a user would pick instead
	@$(BIN)/python -m benchmarks

gpu-check: $(VENV)/.ready ## on a machine with a GPU: probe it, check it, train twice under strict, compare the bits (ARGS=...)
	@$(BIN)/python examples/gpu_check.py $(ARGS)

docs: $(VENV)/.ready-dev ## hold the docs to the code: links, commands, pages that are made from it
	@$(PYTEST) -q tests/test_frame_docs.py

clean: ## remove what was set up here
	rm -rf $(VENV) .cache .demo .pytest_cache .mypy_cache .ruff_cache build dist

.PHONY: debian
debian:
	@.ci/setup debian

$(VENV)/.ready: pyproject.toml .ci/setup
	@.ci/setup venv
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@.ci/setup dev
	@touch $@
