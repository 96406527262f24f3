# run    the main job on real clips, everything set up first
# test   set up and test; Debian packages are installed when root (APT=no forbids it)
# check  format, lint, types, import contracts, tests that need nothing
# bench  the figures of README, as ratios; writes bench.json
# bench-mqtt  the figures of publishing; needs mosquitto
# bench-int8  INT8 against other quantizers; BENCH_MODELOPT names an interpreter that has nvidia-modelopt
# bench-serve  requests against a real tritonserver; BENCH_TRITONSERVER names an interpreter with nvidia-pytriton
# bench-systemd  how quickly the service starts, is restarted and stops; a systemd of its own, as root
# gpu, gpu-bench  tests and figures that need an NVIDIA GPU and its CUDA toolkit; SETUP=no PY=python3 takes
#                 the interpreter as it is
# cross  what a board installs, in dist/: make cross TARGET=jetson-orin-jp6; edgert cross targets lists them
# kernels  compile the CUDA kernels that the wheel carries
PYTHON ?= python3
BIN := .venv/bin
BROKER_EXTRA := $(shell command -v mosquitto >/dev/null || ls /usr/sbin/mosquitto >/dev/null 2>&1 || echo ,broker)

# Unit and contract tests share nothing, so that each core takes some; the others come one after the other.
SIDE_BY_SIDE := $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal tests/unit tests/contract
REST := --ignore tests/unit --ignore tests/contract

PY ?= $(BIN)/python
SETUP ?= yes
NVRTC ?= .cache/nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.12

.PHONY: run test check bench bench-mqtt bench-int8 bench-serve bench-systemd cross gpu gpu-bench gpu-ready kernels clean
run:
	@PYTHON=$(PYTHON) sh setup.sh host,demo$(BROKER_EXTRA)
	@$(BIN)/edgert demo $(ARGS)

test:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,calibrate,serve,broker,dev,rtx
	@sh setup.sh packages
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/lint-imports
	$(if $(ARGS),$(BIN)/pytest $(ARGS),$(SIDE_BY_SIDE) && $(BIN)/pytest $(REST))

check:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,calibrate,serve,broker,dev
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/lint-imports
	$(if $(ARGS),$(BIN)/pytest -m "not system and not gpu" $(ARGS),$(SIDE_BY_SIDE) && $(BIN)/pytest -m "not system and not gpu" $(REST))

bench:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,broker,dev
	$(BIN)/python -m tests.bench $(ARGS)

bench-mqtt:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,dev
	@sh setup.sh packages
	$(BIN)/python -m tests.mqtt_bench $(ARGS)

bench-int8:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,calibrate,dev
	$(BIN)/python -m tests.int8_bench $(ARGS)

bench-serve:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,serve,dev
	$(BIN)/python -m tests.serve_bench $(ARGS)

bench-systemd:
	@PYTHON=$(PYTHON) sh setup.sh host,demo,dev
	@sh setup.sh packages
	$(BIN)/python -m tests.systemd_bench $(ARGS)

gpu: gpu-ready
	$(PY) -m pytest -m gpu tests/gpu tests/contract $(ARGS)

gpu-bench: gpu-ready
	$(PY) -m tests.gpu_bench $(ARGS)

gpu-ready:
	@[ $(SETUP) = no ] || PYTHON=$(PYTHON) sh setup.sh host,demo,dev,cuda,rtx
	@$(PY) cross/compile_kernels.py --only cuda13

cross:
	@PYTHON=$(PYTHON) sh setup.sh host,dev
	$(BIN)/python -m cross $(if $(TARGET),build $(TARGET),targets) $(ARGS)

kernels:
	@[ -f $(NVRTC) ] || $(PY) -m pip install -q --target .cache/nvrtc 'nvidia-cuda-nvrtc-cu12==12.6.*'
	$(PY) cross/compile_kernels.py --nvrtc $(NVRTC)

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
