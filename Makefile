# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUT ?= polyclinic-out
PROTO := polyclinic_common/consortium/consortium.proto
PROTO_OUT := --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:.

# Tests that run whole consortia of a dozen processes: one at a time.
CONSORTIA := tests/faults tests/e2e/test_run_commands.py tests/e2e/test_try_command.py
# Tests of rules and promises that need no whole run; `slow` marks what still takes seconds.
FAST := tests/unit tests/privacy --ignore=tests/unit/door

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# torch goes first and alone, so that a CPU build is taken where the index offers one.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[simulations,ray,mlflow,onnx,dev]'
	touch $@

.PHONY: install
install: $(VENV)/installed  ## Build .venv with the pinned dependencies

.PHONY: demo
demo: install  ## Train on real patients of 12 simulated hospitals, report, predict for one patient
	$(BIN)/polyclinic simulate gbsg2 --epsilon 1 4 --seeds 3 --bundle --out $(OUT)/gbsg2
	$(BIN)/polyclinic predict $$(ls $(OUT)/gbsg2/bundles/*.polyclinic | head -n 1) \
	  --patient age=61 menopause=Post tumour_size=25 grade=II positive_nodes=3 hormone_therapy=yes

.PHONY: bench
bench: install  ## Measure time and memory of training; write JSON and a page of plots
	$(BIN)/python -m polyclinic_simulations.bench --out $(OUT)/bench

.PHONY: bench-consortium
bench-consortium: install  ## Measure a real server and four hospitals; print JSON and a table
	$(BIN)/python -m polyclinic_simulations.bench.consortium

.PHONY: proto
proto: install  ## Write the Python code of the gRPC services anew
	cd common && PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc --proto_path=. $(PROTO_OUT) $(PROTO)

.PHONY: architecture
architecture:  ## Write docs/architecture.md anew from the imports
	$(PYTHON) docs/architecture.py

.PHONY: audit
audit: install  ## Put defects into the product, one by one, and name the test that catches each
	$(BIN)/python -m tests.audit --out $(OUT)/audit.json

.PHONY: lint
lint: install  ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: test
test: lint  ## Check format, lint and types, then run every test
	$(BIN)/pytest -n 2 $(addprefix --ignore=,$(CONSORTIA))
	$(BIN)/pytest $(CONSORTIA)

.PHONY: test-fast
test-fast: install  ## Run the tests that need no whole run: an answer in under three minutes
	$(BIN)/pytest -n 2 -m "not slow" $(FAST)

.PHONY: format
format: install  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## Remove what the targets made
	rm -rf $(VENV) $(OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis
