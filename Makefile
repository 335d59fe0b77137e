# Everything runs in .venv, made on first use from setup.cfg. PYTHON names the interpreter that makes it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHED := .venv/.bench-installed

.DEFAULT_GOAL := help
.PHONY: help run test check style types faults oracle fuzz kills daemonkills soak examples bench bench-report profile ablation dist clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(INSTALLED) ## a tool conversation over one warm WebSocket, with evidence (no key needed)
	$(BIN)/python examples/agent_loop.py

test: $(INSTALLED) ## all tests; ARGS="-k word -x" are passed on
	$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

check: style types test ## style, types and tests

style: $(INSTALLED) ## ruff
	$(BIN)/ruff check .

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

faults: $(INSTALLED) ## every fault at every phase; writes docs/faults.md
	PIXIR_WRITE_DOCS=1 $(BIN)/python -m pytest tests/faults $(ARGS)

fuzz: $(INSTALLED) ## a million spoiled frames and events; ARGS="--inputs 5000000 --seed 7"
	$(BIN)/python -m tests.long.fuzz $(ARGS)

kills: $(INSTALLED) ## 200 rounds of SIGKILL and SIGSTOP under load; ARGS="--rounds 50 --seed 7"
	$(BIN)/python -m tests.long.kills $(ARGS)

daemonkills: $(INSTALLED) ## the same done to the processes of admin daemons, each in turn; ARGS="--rounds 50 --seed 7"
	$(BIN)/python -m tests.long.daemon $(ARGS)

soak: $(INSTALLED) ## 100,000 turns over 50 keys with faults, memory and all else flat; ARGS="--turns 20000 --keys 8"
	$(BIN)/python -m tests.long.soak $(ARGS)

examples: $(INSTALLED) ## every example, one after another
	@for example in examples/[a-z]*.py; do echo "== $$example"; $(BIN)/python $$example || exit 1; done

oracle: $(INSTALLED) ## 20,000 random conversations: what the model saw against what the caller meant
	$(BIN)/python -m tests.long.oracle $(ARGS)

bench: $(BENCHED) ## side by side with its peers, as ratios (a quarter of an hour); ARGS="--quick", "--case burst turns --peer openai"
	$(BIN)/python -m benchmarks $(ARGS)

bench-report: $(BENCHED) ## the same, and again beside busy loops; writes docs/performance.md with its plots (40 minutes)
	mkdir -p build
	$(BIN)/python -m benchmarks --json build/quiet.json $(ARGS)
	$(BIN)/python -m benchmarks --busy --json build/busy.json $(ARGS)
	$(BIN)/python -m benchmarks.report build/quiet.json --busy build/busy.json --to docs/performance.md

profile: $(BENCHED) ## where the time of a warm turn goes, process by process
	$(BIN)/python -m benchmarks.profile $(ARGS)

ablation: $(BENCHED) ## what each change for speed is worth, with profiles (a quarter of an hour); ARGS="--change board --rounds 2"
	$(BIN)/python -m benchmarks.ablation $(ARGS)

dist: $(INSTALLED) ## sdist and wheel in dist/
	rm -rf dist
	$(BIN)/python -m build

clean: ## everything that was made here
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "making .venv with $$($(PYTHON) --version), installing what setup.cfg names (a minute, once)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,simulator]'
	@touch $@

$(BENCHED): $(INSTALLED)
	@echo "installing the peers of the benchmarks (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@
