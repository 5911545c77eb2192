# Everything a newcomer needs, on a bare Debian 12 or 13 with git and make:
#   make demo   real jobs, live in the terminal        make test   every test, on the built wheel
# The targets install what is missing (as root, or with sudo).

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find fsm_miner states journal runners -name '*.py') pyproject.toml README.md LICENSE
CHECKED := fsm_miner states journal runners tests tools tasks
WORKERS ?= 2

.PHONY: help
help:  ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# System packages: only what is missing is installed.
build/.packages: tools/packages.sh
	@mkdir -p build
	sh tools/packages.sh
	@touch $@

build/.packages-tests: tools/packages.sh
	@mkdir -p build
	sh tools/packages.sh --tests
	@touch $@

# The venv, with the exact dependencies of the lock file, checked by their hashes.
$(VENV)/.locked: requirements-dev.lock | build/.packages
	test -x $(BIN)/python || "$$(sh tools/packages.sh --python)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Changes with each commit, and the wheel with it: the version tells any two builds apart.
build/.version: FORCE | $(VENV)/.locked
	@$(BIN)/python tools/version.py >$@.now
	@cmp -s $@.now $@ || cp $@.now $@
	@rm $@.now

.PHONY: FORCE
FORCE:

# The product itself, as the wheel that users get.
$(VENV)/.installed: $(SOURCES) build/.version $(VENV)/.locked
	rm -rf build/wheel
	$(BIN)/python -m hatchling build -t wheel -d build/wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

.PHONY: venv
venv: build/.packages $(VENV)/.installed  ## Make .venv: dependencies, and the product as a wheel

.PHONY: demo
demo: venv  ## Run real jobs through coordinator and daemon, live in the terminal
	$(BIN)/python tools/demo.py

.PHONY: run
run: venv  ## Start coordinator and daemon to play with; Ctrl-C ends both
	$(BIN)/python tools/playground.py

.PHONY: test
test: build/.packages-tests venv lint  ## Run every check and every test
	FSM_MINER_TEST_INSTALLED=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile

.PHONY: deb
deb: venv  ## Build the Debian package, in build/deb
	rm -rf build/deb build/deb.unchecked
	$(BIN)/python tools/deb.py --out build/deb.unchecked
	@if command -v lintian >/dev/null; then tools/lintian.sh build/deb.unchecked/*.deb; else echo "lintian is not installed: not checked"; fi
	@mv build/deb.unchecked build/deb && ls build/deb/*.deb

.PHONY: lint
lint: venv  ## Check style, types, layering and generated documents
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python tools/state_diagram.py --check

.PHONY: fmt
fmt: venv  ## Format the code
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

.PHONY: bench
bench: build/.packages-tests venv  ## Measure, each figure against a floor of the same run; writes build/bench.json
	$(BIN)/python tools/bench.py --out build/bench.json

.PHONY: simulate
SECONDS ?= 60
simulate: venv  ## Run the seeded simulator for SECONDS
	$(BIN)/python tests/simulation/run.py --seconds $(SECONDS)

.PHONY: lock
lock: $(VENV)/.locked  ## Resolve the lock files anew
	$(BIN)/python tools/lock.py

.PHONY: clean
clean:  ## Remove everything that was built
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
