# make demo | test | test-quick | test-slow | test-web | test-isa | test-kills | test-hostile | test-environments | lint | format | docs | dist | clean | bench |
# bench-record | bench-qat | bench-init | bench-kernels | bench-real | bench-ptq | bench-large | folds | paper-tables | zoo | matrix | after. Each makes its virtual environment first, once.
#   make demo BITS=2 OUT=demo-w2a2       make test PYTHON=python3.12       make test PYTEST_ARGS="-k grid -x"

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

MODEL           ?= resnet18
BITS            ?= 4
WEIGHT_BITS     ?= $(BITS)
ACTIVATION_BITS ?= $(BITS)
OUT             ?= demo-out
FOLDS           ?= out-folds
PAPER           ?= out-paper
ARGS            ?=
SIZE            ?= 224
NETWORKS        ?= resnet18 efficientnet_b0 mixnet_s
RECORD          ?= out-bench
JOBS            ?= 2
PYTEST_ARGS     ?=
ISA             ?=

# JOBS test processes with one thread each: more only get in each other's way. They keep compiled modules, also where
# the environment says not to: each process would compile all tests again.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
TRAIN_FOLDS = $(BIN)/lsq-export train --model resnet18 --data digits

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-quick lint test-slow test-web test-isa test-kills test-hostile test-environments dist bench folds bench-record bench-qat bench-init bench-kernels bench-real bench-ptq bench-large paper-tables zoo matrix after docs format clean FORCE

help:
	@head -3 Makefile

demo: $(STAMP)
	$(BIN)/lsq-export demo --model $(MODEL) --weight-bits $(WEIGHT_BITS) --activation-bits $(ACTIVATION_BITS) --out $(OUT) $(if $(filter --resume,$(ARGS)),,--force) $(ARGS)

test: lint
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

# While you work: the mathematics, the passes and the quantizers, without the linter and without whole exports.
WHOLE = rewrite/test_operators.py rewrite/test_properties.py rewrite/test_fold.py rewrite/test_integer_fold.py \
  rewrite/folding/test_merge_parallel.py rewrite/folding/test_bias_correction.py rewrite/folding/test_unspread.py \
  rewrite/lowering/test_keep_pairs_apart.py qat/test_edges.py
test-quick: $(STAMP)
	$(PYTEST) -m "not slow" tests/calib tests/graph tests/rewrite tests/integer tests/qat $(WHOLE:%=--ignore=tests/%) $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: $(STAMP)
	$(PYTEST) -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]  # 5: there are no slow tests

# Whole networks in onnxruntime-web, which test-isa fetches, against ONNX Runtime: minutes. It says what is missing, or how much differs.
test-web: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -q -s -rs tests/pipeline/test_web_networks.py $(PYTEST_ARGS)

# Other instruction sets, emulated (ISA="avx2 arm64": only these); what they need is put into .cache/isa, once. For Debian on x86-64; root installs
# qemu-user, nodejs and npm where they are missing.
test-isa: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m isa $(ISA)

# Commands are killed at changes of the disk and at random moments, and their disks fill up: what is left is whole, and the
# next run leaves nothing behind. make test-kills ARGS="--kills 1000 --seed 1"
test-kills: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m kills $(ARGS)

# Damaged and forged files for every command that reads them; COUNT=100000 takes hours. It goes on where it was interrupted.
COUNT ?= 10000
test-hostile: $(STAMP)
	@mkdir -p .cache
	PYTHONPATH=tests $(BIN)/python -m hostile --count $(COUNT) --record .cache/hostile.jsonl

# Two fresh environments, with other homes, time zones and hash seeds: the same bytes of a bundle.
test-environments: $(STAMP)
	@mkdir -p .cache
	test -f .cache/tiny.safetensors || $(BIN)/lsq-export train --model tiny --data digits --epochs 1 --float-epochs 2 --out .cache/tiny.safetensors
	$(BIN)/python tests/support/two_environments.py .cache/tiny.safetensors

# make bench MODEL=efficientnet_b0: a network by name, against float and quantize_static. make bench OUT=DIR: the bundle in DIR.
bench: $(STAMP)
ifeq ($(origin OUT),file)
	$(BIN)/lsq-export bench --model $(MODEL) --size $(SIZE) --weight-bits $(WEIGHT_BITS) --activation-bits $(ACTIVATION_BITS) $(ARGS)
else
	@test -d $(OUT) || { echo "error: no bundle at $(OUT): export one, or leave OUT out to time a network by name" >&2; exit 2; }
	$(BIN)/lsq-export bench $(OUT) $(ARGS)
endif

# The figures of the README and the tables of docs/benchmarks/speed.md: each network three times, on a machine that does nothing else; hours.
# What $(RECORD)/bench.jsonl has is not measured again. Shorter: ARGS="--runs 10 --repeat 1" SIZE=64
BENCH = $(BIN)/lsq-export bench $(NETWORKS:%=--model %) --size $(SIZE) --weight-bits $(WEIGHT_BITS) --activation-bits $(ACTIVATION_BITS) --repeat 3 \
  --record $(RECORD)/bench.jsonl
bench-record: $(STAMP)
	@mkdir -p $(RECORD)
	$(BENCH) --offset real --batch 1,8 --threads 1,2 --html $(RECORD)/bench.html --json $(RECORD)/bench.json $(ARGS)
	$(BENCH) --offset container --no-details $(ARGS)
	$(BENCH) --offset integer --no-details $(ARGS)
	$(BIN)/python docs/speed_table.py $(RECORD)/bench.jsonl

# A training step, quantized against float: some minutes on an idle machine. With a GPU: make bench-qat ARGS="--device cuda"
bench-qat: $(STAMP)
	$(BIN)/lsq-export qat-speed --json qat-speed.json $(ARGS)

# The initialization by least error, as a share of an epoch of 50,000 images of 32×32: two minutes.
bench-init: $(STAMP)
	$(BIN)/lsq-export init-speed --json init-speed.json $(ARGS)

# Small networks wired like published ones, exported at W8A8 and W4A4: docs/zoo.md and docs/zoo.json.
# What $(ZOO) has is not run again. make zoo ARGS="tied span --bits 8"
ZOO ?= .cache/zoo.jsonl
zoo: $(STAMP)
	@mkdir -p $(dir $(ZOO))
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m zoo --jobs $(JOBS) --record $(ZOO) $(if $(ARGS),$(ARGS),--docs docs)

# What real runtimes make of exported files: docs/receivers.md and docs/receivers.json. Their packages are in an environment of their own, and
# onnxruntime-web is fetched by npm where there is one. What .cache/receivers has is not run again, and no run takes more
# than ten minutes. make matrix ARGS=tiny-w4a4
RECEIVERS := .cache/receivers
matrix: $(RECEIVERS)/installed
	NODE_PATH=$(CURDIR)/$(RECEIVERS)/node_modules OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m receivers --home $(RECEIVERS) \
	  --python $(RECEIVERS)/venv/bin/python --litert $(RECEIVERS)/litert/bin/python $(if $(ARGS),$(ARGS),--docs docs)

$(RECEIVERS)/installed: $(STAMP) lsq_export/replaying/runtime.py
	@mkdir -p $(RECEIVERS)
	$(PYTHON) -m venv $(RECEIVERS)/venv
	$(RECEIVERS)/venv/bin/pip install --quiet --disable-pip-version-check "numpy>=2.2" \
	  $$($(BIN)/python -c "from lsq_export.replaying.runtime import everything as e; print(*{p for r in e() for p in r.packages if '@' not in p and r.name != 'litert'})")
	$(PYTHON) -m venv $(RECEIVERS)/litert
	-$(RECEIVERS)/litert/bin/pip install --quiet --disable-pip-version-check --ignore-requires-python \
	  $$($(BIN)/python -c "from lsq_export.replaying.runtime import get; print(*get('litert').packages)")
	-cd $(RECEIVERS) && npm install --no-audit --no-fund --silent onnxruntime-web@1.30.0
	@touch $@

# What other tools do to exported files: the table of docs/after.md. Their packages are in an environment of their own. What .cache/after has is
# not run again; half an hour. make after ARGS=onnxslim
AFTER := .cache/after
after: $(AFTER)/installed
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m after --home $(AFTER) --python $(AFTER)/venv/bin/python $(if $(ARGS),$(ARGS),--docs docs)

$(AFTER)/installed: $(STAMP) tests/after/requirements.txt
	@mkdir -p $(AFTER)
	$(PYTHON) -m venv $(AFTER)/venv
	$(AFTER)/venv/bin/pip install --quiet --disable-pip-version-check -r tests/after/requirements.txt
	$(AFTER)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps openvino==2026.4.1
	@touch $@

# Networks of public packages calibrated here and by peers: docs/benchmarks/real.md and .json. Needs espeak-ng,
# the network, and an hour or more. What $(REAL) has is not run again. make bench-real ARGS="magika"
REAL ?= .cache/real.jsonl
bench-real: $(STAMP)
	@mkdir -p $(dir $(REAL))
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m real --record $(REAL) $(if $(ARGS),$(ARGS),--docs docs/benchmarks)

# Methods of calibration beside QAT: docs/benchmarks/ptq.md and .json, in half an hour. What .cache/ptq/runs.jsonl has is
# not run again. make bench-ptq ARGS=resnet18
bench-ptq: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m untrained $(if $(ARGS),$(ARGS),--docs docs/benchmarks)

# Time of `export` of 356 branches and of `check` of EfficientNet-B0, memory of `export` of 2.4 GB: minutes, a line of JSON
# each, in one thread. Nothing else should run. make bench-large ARGS="--only memory --size 1"
bench-large: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -W ignore -m large $(ARGS)

# Tables of 256 entries against memcpy: seconds, with the C compiler CC.
KERNELS = lsq_export/kernels/source
bench-kernels: $(STAMP)
	@mkdir -p .cache
	$(CC) -std=c11 -O3 -I$(KERNELS) -o .cache/time_tables tests/kernels/time_tables.c $(KERNELS)/table*.c $(KERNELS)/pair.c $(KERNELS)/pair_x86.c
	.cache/time_tables

# The README's table: ResNet-18 on digits at four widths, from one float model.
folds: $(STAMP)
	@mkdir -p $(FOLDS)
	@test -f $(FOLDS)/w8a8.safetensors || $(TRAIN_FOLDS) --weight-bits 8 --activation-bits 8 --float-out $(FOLDS)/float.safetensors --out $(FOLDS)/w8a8.safetensors
	@for b in 2 3 4; do test -f $(FOLDS)/w$${b}a$$b.safetensors || $(TRAIN_FOLDS) --weight-bits $$b --activation-bits $$b \
	  --float-checkpoint $(FOLDS)/float.safetensors --out $(FOLDS)/w$${b}a$$b.safetensors || exit; done
	$(BIN)/lsq-export folds $(foreach b,2 3 4 8,$(FOLDS)/w$(b)a$(b).safetensors) --out $(FOLDS)/folds.json

# models/RESULTS.md: hours on two cores; goes on where it was interrupted. PAPER: the record of the runs and the float models.
paper-tables: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m models.paper_tables --jobs $(JOBS) --record $(PAPER)/runs.jsonl $(ARGS)
	$(BIN)/python -m models.paper_tables --render --record $(PAPER)/runs.jsonl

# The documentation, as a website in site/ (its search: python3 -m http.server -d site). Its packages are installed once; the build needs no
# network. (Not --quiet, which would hide warnings from --strict: a broken link is an error.)
docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict --clean
	@echo "site/index.html"

$(VENV)/docs-installed: $(STAMP)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: the documentation needs Python 3.11 or newer: make docs PYTHON=... after make clean" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

# An sdist, and the wheel that is built from it. build/ of an earlier run would bring its stale files into the wheel.
dist: $(STAMP)
	rm -rf build dist
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(STAMP)

# The stamp is written last and holds the path of the checkout: an environment without it is half-made (an interrupted install), one with
# another path was copied together with its checkout and imports the code of that one. Both are made anew; a complete one is only updated.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt $(wildcard lsq_export/kernels/source/*)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: name an interpreter with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with PYTHON=..." >&2; exit 2; }
	@test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@rm -f $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@echo "$(CURDIR)" > $@
