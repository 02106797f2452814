# `make demo` and `make test` set up all they need, in .venv; `make` lists what there is.
VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/.created
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
TUS := $(VENV)/tus
OPENSTACK := $(VENV)/openstack/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# mke2fs and its kin are not on every user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin

# How many tests run at once, and what else pytest (or the benchmark) is told: make test ARGS="-k seal -x"
WORKERS ?= auto
ARGS ?=
# How long make fuzz and make differential go on, and where QEMU's sources have its image fuzzer (tests/image-fuzzer);
# IMAGE_FUZZER=fetch fetches them from the machine's Debian or Ubuntu mirror.
MINUTES ?= 10
IMAGE_FUZZER ?=
FETCHED := $(VENV)/image-fuzzer

.DEFAULT_GOAL := help
.PHONY: help demo test browser tus openstack bench fuzz differential mutants check format qemu databases guest clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) ## Watch cowherd keep a small herd of real disks safe (no root, no QEMU)
	@$(BIN)/python demo/run.py

test: $(DEV) qemu databases guest ## Run all tests (installs QEMU's tools, PostgreSQL and MariaDB where it may)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

browser: $(DEV) requirements/browser.txt qemu ## Look at the report and the page of the service in a real browser (needs Chromium)
	@$(PIP_INSTALL) --require-hashes -r requirements/browser.txt
	@$(BIN)/python -m pytest tests/browser $(ARGS)

tus: $(DEV) $(TUS)/.installed ## Upload with the JavaScript client of tus through broken connections (needs Node.js)
	@$(BIN)/python -m pytest tests/service/web/test_tus_clients.py $(ARGS)

$(TUS)/.installed: requirements/tus/package.json requirements/tus/package-lock.json
	@mkdir -p $(TUS) && cp requirements/tus/package*.json $(TUS)/
	@npm ci --silent --no-audit --no-fund --prefix $(TUS)
	@touch $@

openstack: $(DEV) $(OPENSTACK) ## Hold the image service against OpenStack's suites (make openstack ARGS="--against glance")
	@$(BIN)/python -m tests.openstack --peers $(VENV)/openstack $(ARGS)

$(OPENSTACK): requirements/openstack.txt scripts/make-venv
	@echo "Setting up keystone, Glance and OpenStack's suites in $(VENV)/openstack"
	@scripts/make-venv $(VENV)/openstack
	@$(VENV)/openstack/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/openstack.txt
	@touch $@

bench: $(RUN) qemu ## Measure cowherd and qemu-img side by side (make bench ARGS="--quick"; see docs/benchmarks.md)
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(DEV) requirements/fuzz.txt $(if $(filter fetch,$(IMAGE_FUZZER)),$(FETCHED)) ## Fuzz everything that reads a file (make fuzz MINUTES=10; see docs/reliability.md)
	@$(PIP_INSTALL) --require-hashes -r requirements/fuzz.txt || echo "Going on without atheris: inputs are chosen by chance." >&2
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(IMAGE_FUZZER),--image-fuzzer $(IMAGE_FUZZER:fetch=$(FETCHED))) $(ARGS)

$(FETCHED):
	@scripts/fetch-image-fuzzer $@

differential: $(DEV) qemu ## Let QEMU and cowherd change images in turn (make differential MINUTES=60)
	@$(BIN)/python -m tests.differential --minutes $(MINUTES)

mutants: $(DEV) qemu ## Change cowherd a little, many times, and see whether a test notices (make mutants ARGS="--number 60")
	@$(BIN)/python -m tests.mutants $(ARGS)
	@$(BIN)/python -m tests.reliability.flushes

check: $(DEV) ## Lint, check the format, the types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## Rewrite the sources as the linter and formatter want them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

qemu: ## Install QEMU's tools for the tests, if they are missing and this user may
	@scripts/install-qemu || { test -z "$$CI" && echo "Going on without: the tests that need QEMU are skipped." >&2; }

databases: ## Install PostgreSQL and MariaDB for the tests, if they are missing and this user may
	@scripts/install-databases || { test -z "$$CI" && echo "Going on without: the tests that need them are skipped." >&2; }

guest: ## Fetch a kernel for the tests that boot a machine, if it is missing
	@scripts/fetch-guest $(VENV)/guest || { test -z "$$CI" && echo "Going on without: the tests that boot one are skipped." >&2; }

clean: ## Remove everything that these targets made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(CREATED): scripts/make-venv
	@scripts/make-venv $(VENV)
	@touch $@

$(RUN): $(CREATED) pyproject.toml requirements/run.txt requirements/build.txt
	@echo "Setting up cowherd in $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	@echo "Setting up the development tools in $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
