# Every target sets up what it needs by itself, once; a second run is quick.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# The compiler and the chain are looked for on PATH by Ape: ours come first.
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.build/bin:$(PATH)
# Telemetry-free, and never a question in a script.
export DEBIAN_FRONTEND := noninteractive
SETUP := scripts/setup.sh
PYTEST ?= python -m pytest
# What takes emulated PCs, containers or whole networks: two rows beside each other, in each of them one
# at a time, as they wait more than they compute. Those of tests/e2e share one network, which lives until
# the end: they come last.
ATTACKS := tests/lab/test_attacks.py
MACHINES := $(ATTACKS) tests/images tests/agent tests/machine tests/scripts
NETWORKS := tests/lab tests/e2e
# They add block devices to this computer, which every Agent that runs on it would report: alone.
DEVICES := tests/agent/test_mapper.py tests/agent/test_scratch.py

.PHONY: help setup demo lab lab-soak test test-fast test-long fuzz mutate check gas odds evasion bench fmt lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: ## everything that the other targets need
	@$(SETUP)

demo: ## the main job, end to end, on this machine
	@$(SETUP) python anvil machine
	@sealrun demo

lab: setup ## a PC that boots from its Pi, one task through it; takes everything down again
	@sealrun lab all

test: setup ## all gates and all tests; what CI runs
	@$(MAKE) --no-print-directory gates
	@$(PYTEST) -n auto --dist loadfile $(addprefix --ignore=,tests/gates $(MACHINES) $(NETWORKS)) $(PYTEST_ARGS)
	@$(PYTEST) $(DEVICES) $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target --keep-going test-machines test-networks

.PHONY: test-machines test-networks
test-machines:
	@$(PYTEST) $(MACHINES) $(addprefix --ignore=,$(DEVICES)) $(PYTEST_ARGS)

test-networks:
	@$(PYTEST) $(NETWORKS) --ignore=$(ATTACKS) $(PYTEST_ARGS)

test-fast: ## the tests that need neither chain nor Docker
	@$(SETUP) python
	@$(PYTEST) -m 'not chain and not machine' $(PYTEST_ARGS)

test-long: ## arbitrary sequences of calls, a million of them; goes on where it stopped
	@$(SETUP) python anvil
	@python -m tests.contracts.properties.long

# atheris is no dependency: its wheels are for x86-64 only, and the long run goes without it, too.
fuzz: ## every parser of foreign bytes, a million changed inputs and more, into var/fuzz.json
	@$(SETUP) python
	@python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
		--target .build/fuzz -r scripts/fuzz/requirements.lock \
		|| echo "no atheris for this computer: without coverage"
	@PYTHONPATH=$(CURDIR):$(CURDIR)/.build/fuzz nice -n 19 python -m tests.fuzz.long

mutate: ## every mutant of the contracts, docs/mutation.md; goes on where it stopped
	@$(SETUP) python anvil
	@python -m scripts.mutation --jobs $$(nproc); python -m scripts.mutation --survivors --jobs $$(nproc)

check: ## format, lint, types, import direction, contracts, README
	@$(SETUP) python
	@$(MAKE) --no-print-directory gates

.PHONY: gates
gates:
	@ruff format --check .
	@ruff check .
	@mypy
	@python scripts/compile_contracts.py
	@$(PYTEST) -q -n 0 tests/gates

gas: ## what each step costs, into var/gas.json and docs/gas.md
	@$(SETUP) python anvil
	@python -m scripts.gas_report

odds: ## a million draws of the deployed bytecode against the exact odds
	@$(SETUP) python anvil
	@SEALRUN_DRAWS=1000000 $(PYTEST) -q -n 0 -rP tests/contracts/test_draw_odds.py tests/contracts/test_adversary.py

evasion: ## a million attacks between the questions of the real scheduler, docs/evasion.md
	@$(SETUP) python
	@python -m scripts.evasion

bench: setup ## speeds and memory, into var/bench.json
	@python scripts/bench.py
	@python scripts/bench_appraisal.py
	@python scripts/bench_isolation.py
	@python scripts/bench_boot.py
	@python scripts/bench_hardware.py
	@python scripts/bench_erasure.py
	@python scripts/bench_roots.py
	@python scripts/bench_images.py
	@python scripts/bench_status.py

lab-soak: setup ## twenty honest tasks in a row through one lab: no false alarm
	@python scripts/bench_lab.py --tasks 20

fmt: ## format and fix what can be fixed
	@$(SETUP) python
	@ruff format .
	@ruff check --fix .

lock: ## resolve requirements.in into requirements.lock
	@$(SETUP) python
	@scripts/lock.sh

clean: ## remove what was made here (never deployments, keys or var/)
	@rm -rf .venv .build build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
