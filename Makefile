# Each target sets up what it needs: Python 3.11 or newer, pip and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-sandbox test-real check install run clean requirements documents

# --without-pip: works also where Debian's python3-venv is not installed; pip installs into the folder from outside.
$(VENV)/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/dev.txt
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/.ready ## a canary release, an update and a failing update on the sandbox
	$(BIN)/triton demo

test: $(VENV)/.ready ## every test, on the sandbox and on the real parts: needs Go, Java, Maven, redis-server, openssl, Prometheus (docs/operations.md)
	bash tests/run

test-sandbox: $(VENV)/.ready ## the tests that need Python alone
	bash tests/run --sandbox

test-real: $(VENV)/.ready ## the tests on the real parts
	bash tests/run --real

check: $(VENV)/.ready ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

install: $(VENV)/.ready ## the CRD into the cluster of the current kubeconfig
	$(BIN)/triton crd --install

run: $(VENV)/.ready ## the four services against the cluster of the current kubeconfig (settings: TRITON_…)
	$(BIN)/triton run

documents: $(VENV)/.ready ## what is generated: the CRD, the AsyncAPI and the OpenAPI document, the JSON Schemas, Kibana's saved objects, the Python of the .proto files and tables of docs/deployflow.md
	$(BIN)/triton crd > deploy/crds/apps.triton.io_deployflows.yaml
	$(BIN)/python -m shared.messaging.asyncapi > docs/asyncapi.yaml
	$(BIN)/python -m shared.messaging.json_schemas docs/schemas
	$(BIN)/python -m services.planner.api.protos.generate
	$(BIN)/python -m services.planner.api.openapi > docs/openapi.json
	$(BIN)/python -m services.events.kibana > deploy/kibana/triton.ndjson
	$(BIN)/python -m tests.docs.field_tables

requirements: ## pin the newest versions (needs uv)
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --upgrade requirements/dev.in -o requirements/dev.txt
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header -c requirements/dev.txt requirements/runtime.in -o requirements/runtime.txt
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header -c requirements/dev.txt requirements/build.in -o requirements/build.txt

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
