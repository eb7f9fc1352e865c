# `make help` lists the commands. Everything happens in .venv, made from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := models,features,benchmarks,loadtest,dev
URL ?= http://127.0.0.1:8000
# .env first and the shell's own variables over it, as docker compose does.
ENVIRONMENT := shell=$$(export -p); set -a; if [ -f .env ]; then . ./.env; fi; set +a; eval "$$shell"

.DEFAULT_GOAL := help
.PHONY: help run test test-all check format bench load efficiency demo lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/service ## serve the demo bundle, or MSR_BUNDLE, with all that .env and MSR_… say
	@$(ENVIRONMENT); exec $(BIN)/python -m service

test: $(VENV)/all ## the tests, in minutes
	$(BIN)/python -m pytest

test-all: $(VENV)/all ## the slow tests too
	$(BIN)/python -m pytest -m ''

check: $(VENV)/all ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/all ## fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/all ## candidate generation and HTTP against plain alternatives, as ratios
	$(BIN)/python -m benchmarks candidates --random
	$(BIN)/python -m benchmarks http

load: $(VENV)/all ## Locust for a minute against a running service (URL=…)
	@mkdir -p out
	$(BIN)/locust -f loadtest/locustfile.py --headless -u 20 -r 5 -t 60s --host $(URL) --csv out/load

efficiency: $(VENV)/all ## seconds per user for each strategy (RQ4) from a running service (URL=…)
	$(BIN)/python -m benchmarks efficiency --url $(URL)

$(VENV)/service: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MSR Serve needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the service into $(VENV) …"
	@$(PIP) --editable .
	@touch $@

$(VENV)/all: $(VENV)/service
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
	$(BIN)/python tests/demo_golden.py

lock: ## make constraints.txt again from the ranges in pyproject.toml
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[$(EXTRAS)]'
	build/lock/bin/python -m pip freeze --exclude msr-serve --exclude pip --exclude setuptools \
		| sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > constraints.txt

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
