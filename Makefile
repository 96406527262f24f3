# run    the main job on real clips, everything set up first
# test   set up and test; Debian packages are installed when root (APT=no forbids it)
# check  format, lint, types, import contracts, tests that need nothing
# bench  the figures of README, as ratios; writes bench.json
PYTHON ?= python3
BIN := .venv/bin
BROKER_EXTRA := $(shell command -v mosquitto >/dev/null || ls /usr/sbin/mosquitto >/dev/null 2>&1 || echo ,broker)

.PHONY: run test check bench clean
run:
	@PYTHON=$(PYTHON) sh setup.sh host,demo$(BROKER_EXTRA)
	@$(BIN)/edgert demo $(ARGS)

test:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,broker,dev
	@sh setup.sh packages
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/pytest $(ARGS)

check:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,broker,dev
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/pytest -m "not system and not gpu" $(ARGS)

bench:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,broker,dev
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
