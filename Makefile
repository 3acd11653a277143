# Each command sets up .venv first if it is missing or older than what it is made from.
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo lab test notebooks gallery bench browser simulator

help:
	@echo 'make demo       simulate, train and evaluate; ends with the path of a report'
	@echo 'make lab        open JupyterLab on notebooks/'
	@echo 'make test       ruff, the tests, and the notebooks against their stored outputs'
	@echo 'make notebooks  execute notebooks/*.py into notebooks/*.ipynb'
	@echo 'make gallery    draw docs/gallery.md, its pictures and docs/demo.gif from notebooks/demo_run'
	@echo 'make bench      run every benchmark; benchmarks/gpu_check.py is for a machine with a GPU'

demo: $(READY)
	$(BIN)/labkit demo

lab: $(READY)
	$(BIN)/jupyter lab notebooks

# The quick checks first. One thread: rounding, and so every stored number, is then the same
# on any number of cores.
test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(MAKE) --no-print-directory browser simulator
	$(BIN)/pytest -q -n auto --dist worksteal tests
	$(BIN)/pytest -q -n auto --dist loadfile --nbval $(NBVAL) notebooks

# pyproject's addopts and filterwarnings are for labkit's own tests: the notebooks run in
# kernels of their own. How strict the comparison is, see notebooks/conftest.py.
NBVAL := -o addopts= -o filterwarnings= --nbval-current-env \
	--nbval-sanitize-with notebooks/nbval.cfg --nbval-cell-timeout 600

notebooks: export OMP_NUM_THREADS = 1
notebooks: $(READY)
	$(BIN)/python notebooks/build.py

gallery: export OMP_NUM_THREADS = 1
gallery: $(READY)
	$(BIN)/python docs/gallery.py

# Minutes of each recipe in time_to_quality.py; its aims are those of 20.
BENCH_MINUTES ?= 5

bench: $(READY)
	@set -e; for script in $$(ls benchmarks/*.py | grep -v gpu_check.py); do \
		options=; \
		case $$script in */time_to_quality.py) options='--minutes $(BENCH_MINUTES)';; esac; \
		echo "$(BIN)/python $$script $$options"; $(BIN)/python "$$script" $$options; \
	done; \
	$(BIN)/python benchmarks/training_parts/summary.py

# A Chromium for tests/browser: one that is there, else the system's package, else
# playwright's own. Without one those tests skip, and fail where CI is set.
FIND_CHROMIUM := $(BIN)/python -c 'import sys, labkit.doctor as d; sys.exit(d.find_chromium() is None)'
browser: $(READY)
	@if $(FIND_CHROMIUM); then exit 0; fi; \
	echo 'No Chromium found, which the tests in a browser need: getting one.'; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; \
	fi; \
	if $(FIND_CHROMIUM); then exit 0; fi; \
	if $(BIN)/playwright install chromium && $(FIND_CHROMIUM); then exit 0; fi; \
	echo 'No Chromium could be had: the tests in a browser will not run.'; \
	[ -z "$$CI" ]

# What MuJoCo draws with, for tests/examples. Without it those tests skip, and fail where CI is set.
CAN_DRAW := $(BIN)/python -c 'import labkit.doctor as d; raise SystemExit(d.draws_mujoco())'
simulator: $(READY)
	@if $(CAN_DRAW) 2>/dev/null; then exit 0; fi; \
	echo 'MuJoCo cannot draw here, which the tests of examples/ need: getting Mesa.'; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends libegl1 libgl1; \
	fi; \
	if $(CAN_DRAW); then exit 0; fi; \
	[ -z "$$CI" ]

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'labkit needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.11 ...' >&2; \
		exit 2; }
	@echo 'Setting up .venv, once; it takes some minutes, and about 6 GB on Linux.'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { \
		echo 'No virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)' >&2; \
		exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]' -c constraints.txt
	@touch $@
