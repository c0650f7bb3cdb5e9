# One environment, built from requirements.lock into .venv, and the commands that run in it. Needs python3 (3.11 to 3.13) and make.

PYTHON ?= python3
FAMILY ?= yolov9
SIZE ?= m
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help environment reproduce results smoke test accuracy parity lint types lock

help:
	@echo "make reproduce SIZE=m   evaluate one row on COCO and compare it with its published figure"
	@echo "                        (also FAMILY=yolov9, and ARGS='-p dataset data/coco' for papermill;"
	@echo "                        ARGS='-p fill_table True' keeps the record for the table, not in results/runs)"
	@echo "make results            write table, figures and notebooks in results/ from the records, in some ten minutes"
	@echo "make smoke              run three notebooks on the demo set in about a minute"
	@echo "make test               run the tests on every core (ARGS='-k nms' for pytest)"
	@echo "make accuracy           the longest tests: real weights on all reference images, learning at full size, ten kills"
	@echo "make parity             write how near this code comes to the references (results/parity.*), in some ten minutes;"
	@echo "                        needs the developers' shared material"
	@echo "make lint               check style and formatting with ruff"
	@echo "make types              check types with mypy"
	@echo "make lock               choose the newest versions that pyproject.toml allows into requirements.lock"
	@echo "make environment        only build the environment, .venv, which the others build when it is missing"
	@echo "Another Python than python3: make test PYTHON=python3.12"

reproduce: $(STAMP)
	mkdir -p results/runs
	$(RUN) papermill notebooks/reproduce.ipynb results/runs/$(FAMILY)-$(SIZE).ipynb -p family $(FAMILY) -p size $(SIZE) $(ARGS)

# The record of the demonstration stays among the runs, as every record that is not asked to fill the table.
DEMO := -p dataset demo -p checkpoint train -p size t

results: $(STAMP)
	$(RUN) yolov9bench report
	$(RUN) papermill notebooks/table.ipynb results/table.ipynb --no-progress-bar
	$(RUN) papermill notebooks/performance.ipynb results/performance.ipynb --no-progress-bar
	$(RUN) papermill notebooks/reproduce.ipynb results/reproduce.ipynb $(DEMO) --no-progress-bar
	$(RUN) papermill notebooks/protocol.ipynb results/protocol.ipynb $(DEMO) --no-progress-bar
	$(RUN) yolov9bench tidy results/table.ipynb results/performance.ipynb results/reproduce.ipynb results/protocol.ipynb

SMOKE := -p size t -p dataset demo -p epochs 1 -p image_size 64 -p limit 8 --no-progress-bar

smoke: $(STAMP)
	mkdir -p results/runs
	$(RUN) papermill notebooks/reproduce.ipynb results/runs/smoke.ipynb -p checkpoint train $(SMOKE)
	$(RUN) papermill notebooks/train.ipynb results/runs/smoke-train.ipynb $(SMOKE)
	$(RUN) papermill notebooks/protocol.ipynb results/runs/smoke-protocol.ipynb -p checkpoint train $(SMOKE)

# A worker a core, at most 8 for the sake of memory (each takes up to 4 GB); a file goes to one worker, since its
# tests share what its fixtures made, and the files with the longest tests go first. Each computes with one thread: more would
# take the cores from one another. glibc gives the memory of every large tensor back to the system and fetches it anew
# for the next one, which took a sixth of the time; it keeps it under these thresholds. Other systems ignore them.
WORKERS := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test accuracy parity: export OMP_NUM_THREADS := 1
test accuracy parity: export MALLOC_MMAP_THRESHOLD_ := 2000000000
test accuracy parity: export MALLOC_TRIM_THRESHOLD_ := 20000000000
test: $(STAMP)
	$(RUN) pytest $(WORKERS) $(ARGS)

# What takes minutes by its nature; most of it needs the developers' shared material and skips without it.
accuracy: $(STAMP)
	$(RUN) pytest $(WORKERS) -m accuracy $(ARGS)

# The tests that compare with recorded output, of both lanes; written only if every one passed.
parity: $(STAMP)
	$(RUN) pytest $(WORKERS) -m "" --parity results/parity.json $(ARGS)
	$(RUN) yolov9bench report

lint: $(STAMP)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(STAMP)
	$(RUN) mypy

# Without a host name and without the machine's own package folders; the bounds are those of pyproject.toml.
lock: $(STAMP)
	$(RUN) uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
		--only-binary :all: --no-annotate --no-emit-index-url --custom-compile-command "make lock" \
		pyproject.toml --output-file requirements.lock

environment: $(STAMP)

# Only a machine for which the lock has no wheel installs unlocked; any other failure, a wrong hash above all, stops here.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || \
		{ echo "$(PYTHON) was not found: install Python 3.11, 3.12 or 3.13, or name it, as in PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but 3.11, 3.12 or 3.13 is needed: name one, as in PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" || \
		{ echo "$(PYTHON) cannot make environments: install its venv part (on Debian and Ubuntu: python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the versions in requirements.lock into $(VENV) (several GB with CUDA)"
	@if $(RUN) pip install --require-hashes --only-binary :all: -r requirements.lock 2> $(VENV)/errors.txt; then \
		$(RUN) pip install --no-deps --no-build-isolation --editable .; \
	else \
		cat $(VENV)/errors.txt >&2; \
		grep -q "No matching distribution" $(VENV)/errors.txt || exit 1; \
		echo "The lock has no wheel for this machine (above): installing what pyproject.toml allows instead, unlocked."; \
		$(RUN) pip install --editable ".[dev]"; \
	fi
	@touch $(STAMP)
