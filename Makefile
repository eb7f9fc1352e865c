# `make help` lists the commands. Everything happens in .venv, made from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := models,features,benchmarks,loadtest,dev
# A file's tests share its servers, so a file stays with one process.
PARALLEL := --numprocesses 2 --dist loadfile
URL ?= http://127.0.0.1:8000
# The version of a build of torch without CUDA ends in +cpu. On Linux an index that lacks it gives the one with CUDA.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_PATTERN := $(subst .,\.,$(TORCH))
NO_CPU_BUILD := [ "$$(uname -s)" = Linux ] && ! $(BIN)/python -m pip index versions torch 2>/dev/null | grep -qE '$(TORCH_PATTERN)\+cpu|INSTALLED: *$(TORCH_PATTERN)(\+|$$|[[:space:]])'
# .env first and the shell's own variables over it, as docker compose does.
ENVIRONMENT := shell=$$(export -p); set -a; if [ -f .env ]; then . ./.env; fi; set +a; eval "$$shell"

.DEFAULT_GOAL := help
.PHONY: help run test test-all check format bench compare load efficiency demo lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/service ## serve the demo bundle, or MSR_BUNDLE, with all that .env and MSR_… say
	@$(ENVIRONMENT); exec $(BIN)/python -m service

test: $(VENV)/all ## the tests, in minutes
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(VENV)/all ## the slow tests too
	$(BIN)/python -m pytest $(PARALLEL) -m ''

check: $(VENV)/all ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/all ## fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/all ## candidates, training steps and HTTP against plain alternatives, as ratios
	$(BIN)/python -m benchmarks candidates --random
	$(BIN)/python -m benchmarks graph
	$(BIN)/python -m benchmarks training
	$(BIN)/python -m benchmarks http

# Asked for before anything is installed.
ifneq ($(filter compare,$(MAKECMDGOALS)),)
ifeq ($(strip $(BASE)),)
$(error say with which commit to compare: make compare BASE=<commit>)
endif
endif

compare: $(VENV)/all ## is anything slower than in another commit (BASE=…); a quarter of an hour
	$(BIN)/python -m benchmarks compare --base '$(BASE)'

load: $(VENV)/all ## Locust for a minute against a running service (URL=…)
	@mkdir -p out
	$(BIN)/python -m loadtest --headless -u 20 -r 5 -t 60s --host '$(URL)' --csv out/load

efficiency: $(VENV)/all ## seconds per user for each strategy (RQ4) from a running service (URL=…)
	$(BIN)/python -m benchmarks efficiency --url '$(URL)'

$(VENV)/service: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MSR Serve needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the service into $(VENV) …"
	@$(PIP) --editable .
	@touch $@

$(VENV)/all: $(VENV)/service
	@if $(NO_CPU_BUILD); then echo "this index has no CPU build of torch $(TORCH), so 4 GB of CUDA come along;" \
		"without a GPU stop now and set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"; fi
	@echo "installing what training, tests and benchmarks need into $(VENV) (torch is large) …"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(VENV)/all ## make the committed demo bundle again (service/demo): data, captions, training
	rm -rf build/demo build/demo-runs
	$(BIN)/python -m models demo --bundle build/demo
	MSR_PROVIDER=simulator MSR_SIMULATOR_PROFILE=instant \
		$(BIN)/python -m service enhance --bundle build/demo --captioner simulator
	$(BIN)/python -m models train --bundle build/demo --model demo --runs build/demo-runs --name morec-t
	$(BIN)/python -m models train --bundle build/demo --model demo --runs build/demo-runs \
		--name morec-t-enhanced --text-view enhanced --captioner simulator
	$(BIN)/python -m models export --run build/demo-runs/morec-t --bundle build/demo --name morec-t
	$(BIN)/python -m models export --run build/demo-runs/morec-t-enhanced --bundle build/demo \
		--name morec-t-enhanced
	rm -rf service/demo && cp -r build/demo service/demo
	$(BIN)/python tests/fakes/demo_golden.py

lock: ## make constraints.txt again from the ranges in pyproject.toml; torch stays as it is pinned
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	grep '^torch==' constraints.txt > build/lock/torch.txt
	build/lock/bin/python -m pip install --quiet --constraint build/lock/torch.txt '.[$(EXTRAS)]'
	build/lock/bin/python -m pip freeze --exclude msr-serve --exclude pip --exclude setuptools > build/lock/frozen.txt
	sed -E -e '/^(nvidia|cuda|triton|pytorch-triton)[-=]/d' -e 's/^(torch==[0-9.]+)\+.*/\1/' \
		build/lock/frozen.txt > constraints.txt

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
