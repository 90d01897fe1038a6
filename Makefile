# Each target sets up what it needs: Python 3.11 or newer, with python3-venv or pip, and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUPPLY := build/supply
SBOM := build/triton.cdx.json
ARGS ?=
export PYTHON

.PHONY: campaign demo test planted-mistakes test-sandbox test-real check audit sbom digests install run clean requirements documents

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@bash requirements/install

$(SUPPLY)/.ready: requirements/supply.txt
	@bash requirements/install $(SUPPLY) requirements/supply.txt

demo: $(VENV)/.ready ## a canary release, an update and a failing update on the sandbox
	$(BIN)/triton demo

test: ## every test, on the sandbox and on the real parts; installs with apt-get what it lacks where it may; ARGS="tests/unit -k plan" runs some
	@bash tests/run $(ARGS)

test-sandbox: ## the tests that need no real parts
	@bash tests/run --sandbox $(ARGS)

test-real: ## the tests on the real parts
	@bash tests/run --real $(ARGS)

campaign: $(VENV)/.ready ## random releases with random trouble around them, two minutes; ARGS="--real --seed 1 --seconds 600" plays others
	$(BIN)/python bench/campaign.py $(or $(ARGS),--sandbox --seed 13 --seconds 90 --instances 6)

planted-mistakes: $(VENV)/.ready ## plants mistakes in the services, and says which test finds each (some minutes)
	$(BIN)/python -m tests.planted_mistakes

check: $(VENV)/.ready ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: $(SUPPLY)/.ready ## known vulnerabilities of the image's Python packages: fails if there is one, prints a note if the database is not reached
	@$(SUPPLY)/bin/python -m deploy.supply.audit requirements/runtime.txt $(SUPPLY)/cache

sbom: $(SUPPLY)/.ready ## an SBOM (CycloneDX) of the image's Python packages: build/triton.cdx.json
	@$(SUPPLY)/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON --output-file $(SBOM) requirements/runtime.txt
	@$(SUPPLY)/bin/python -m deploy.supply.sbom requirements/runtime.txt $(SBOM)

digests: ## the digests of the base and compose images, read from their registries: build/digests.env (needs docker with buildx)
	@$(PYTHON) -m deploy.supply.digests build/digests.env

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
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --upgrade requirements/supply.in -o requirements/supply.txt

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
