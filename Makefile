# Every target sets up what it needs on a machine that has Python 3.11+, pip and make.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/bin/uv
BIN := .venv/bin
READY := .venv/.ready
MEMBERS := pyproject.toml uv.lock $(wildcard */pyproject.toml)

.PHONY: help setup demo test test-nightly torture truth lint format bench bench-ingest bench-judge bench-overhead bench-query bench-tui bench-witness dashboards causes pictures clean
.DEFAULT_GOAL := help

help: ## What can be typed
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hopwatch needs Python 3.11 or newer; say PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(READY): $(UV) $(MEMBERS)
	@UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --frozen --all-packages --all-extras --no-python-downloads --quiet --python $(PYTHON)
	@touch $@

setup: $(READY) ## Make .venv with everything in it

demo: $(READY) ## Run the shop: live view on a terminal, a report without one
	@$(BIN)/python -m hopwatch_demo $(ARGS)

# pytest-cov tells the total only when it has a figure to compare with; the one here gates nothing.
# Files are spread over three processes, which share the brokers: on two cores they wait as much as they work.
test: $(READY) ## Run every test, on real brokers (.venv/bin/coverage report: what they missed)
	@$(BIN)/python -m pytest -n 3 --cov --cov-report= --cov-fail-under=0.01 $(ARGS)

# One process: the test at rate needs the machine for itself.
test-nightly: $(READY) ## What takes too long for every day: ten minutes at 500 messages a second (HOPWATCH_RATE_SECONDS, …)
	@$(BIN)/python -m pytest -m nightly -s $(ARGS)

torture: $(READY) ## Kill the collector at random moments with strangers at its ports; count what it acknowledged (ARGS="--minutes 20")
	@PYTHONPATH=tests/system $(BIN)/python -m torture $(ARGS)

truth: $(READY) ## Judge the judge: random scenarios on real brokers, every delivery held against what happened (ARGS="--help")
	@PYTHONPATH=tests/system $(BIN)/python -m truth $(ARGS)

lint: $(READY) ## Formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Rewrite the code in the house's format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: bench-ingest bench-judge bench-query bench-overhead bench-witness bench-tui ## Every benchmark there is

bench-witness: $(READY) ## What asking brokers costs them and us
	@$(BIN)/python -m benchmarks.witness $(ARGS)

bench-tui: $(READY) ## CPU of the terminal view with 10,000 rows; seconds from sent to visible on screen
	@$(BIN)/python -m benchmarks.tui $(ARGS)

bench-ingest: $(READY) ## OTLP/HTTP in to queryable: spans per CPU-second, bytes per span
	@$(BIN)/python -m benchmarks.ingest $(ARGS)

bench-judge: $(READY) ## What judging deliveries costs, behind a backlog and live too; seconds from sent to verdict
	@$(BIN)/python -m benchmarks.judge $(ARGS)

bench-query: $(READY) ## How long flows, messages and keys take to be found, beside the exporter's table in the same engine
	@$(BIN)/python -m benchmarks.query $(ARGS)

bench-overhead: $(READY) ## CPU that instrumentation adds per message, beside what OpenTelemetry's own adds
	@$(BIN)/python -m benchmarks.overhead $(ARGS)

dashboards: $(READY) ## Regenerate the Grafana dashboards from code
	@$(BIN)/python -m dashboards.generate

causes: $(READY) ## Rewrite the table of causes in the collector's README from the rules
	@$(BIN)/python collector/causes.py

pictures: $(READY) ## Redraw the pictures of the terminal view from the demo's shop
	@$(BIN)/python tui/docs/picture.py

clean: ## Remove what the targets made
	rm -rf .venv .uv .cache __cache__ .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
