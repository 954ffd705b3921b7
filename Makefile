# Entry points for people and CI. Everything they need beyond a shell and Python 3.11 is made or installed by `make setup`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

NAME ?= phasewatt
ENGINE ?= cpu
OBJECTS ?= 1000
# Test processes; 0: one after the other in one process, which suits two cores best.
WORKERS ?= 0
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/phasewatt
UV_VERSION := 0.13.8
# uv from PATH, else one of our own in the cache folder.
UV := $(or $(shell command -v uv 2>/dev/null),$(CACHE)/uv/bin/uv)
export PATH := $(CACHE)/uv/bin:$(PATH)

.PHONY: help setup prepare demo test check lint bench-operator bench-recovery testbed-up testbed-down testbed-status images

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(CACHE)/uv/bin/uv:
	python3 -m venv $(CACHE)/uv
	$(CACHE)/uv/bin/pip install --quiet uv==$(UV_VERSION)

setup: | $(UV) ## make the Python environment from the lock (and get uv where it is missing)
	$(UV) sync --frozen

demo: setup ## from nothing to tokens out of a prefill and a decode engine (ENGINE=cpu: real vLLM, ENGINE=sim: simulated)
	$(UV) run python -m phasewatt_suite.demo --engine $(ENGINE) --name $(NAME)

test: lint prepare ## everything: checks, unit, property, golden, chart, integration, end-to-end on a cluster of its own
	$(UV) run pytest --numprocesses=$(WORKERS) --dist=loadgroup

prepare: setup ## make what takes long the first time: cluster programs, images, the real engine's environment
	$(UV) run phasewatt-testbed prepare

check: lint ## the fast inner loop: checks and the tests that need neither a cluster nor an API server
	$(UV) run pytest -q -m "not integration and not e2e" operator/tests

lint: setup ## format, lint, types, import contract
	$(UV) run ruff format --check
	$(UV) run ruff check
	$(UV) run mypy
	$(UV) run lint-imports

bench-operator: setup ## what OBJECTS objects cost: time, API writes, CPU, memory (real API server, pods played by kwok)
	$(UV) run python -m phasewatt_suite.bench.operator_scale --objects $(OBJECTS)

bench-recovery: setup ## how fast deleted children come back (real API server)
	$(UV) run python -m phasewatt_suite.bench.child_recovery

testbed-up: setup ## bring up the kind cluster NAME and load all images into it
	$(UV) run phasewatt-testbed up --name $(NAME)
	$(UV) run phasewatt-testbed load --name $(NAME)

testbed-down: setup ## remove the kind cluster NAME
	$(UV) run phasewatt-testbed down --name $(NAME)

testbed-status: setup ## show the nodes of the kind cluster NAME
	$(UV) run phasewatt-testbed status --name $(NAME)

images: setup ## build the images whose inputs changed
	$(UV) run phasewatt-testbed build
