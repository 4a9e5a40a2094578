# Everything a person or a machine runs here. Nothing but python3, git and make is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo dev test check format bench soak interop crash opt-outs images lock clean

demo: $(READY)  ## sync 1,000 contacts of a fresh sandbox, change some, opt out on both sides, sync again; ARGS=--json for machines
	@$(BIN)/d365-campaign demo $(ARGS)

dev: $(READY)  ## keep the sandbox and Dagster's UI running; ARGS="--port 3001"
	@$(BIN)/d365-campaign dev $(ARGS)

# A module's tests stay on one worker, in their order: some share a sandbox, and those of the browser are one story.
test: $(READY)  ## every test, on as many cores as there are; ARGS="tests/store -k reject"
	$(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

check: $(READY)  ## format, lint, types, layers, schema file, definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py
	$(BIN)/d365-campaign schema --check
	mkdir -p .local/dagster && DAGSTER_HOME=$(CURDIR) $(BIN)/dagster definitions validate -w workspace.yaml --log-level warning

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## the benchmarks, as a table
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY)  ## change both systems every few seconds under `dagster dev`, then compare them; MINUTES=30 EVERY=3
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30) --every $(or $(EVERY),3)

interop: $(READY)  ## Adobe's own JavaScript client against the sandbox; needs npm
	$(BIN)/python -m tests.interop.campaign_sdk

crash: $(READY)  ## kill syncs at random moments; ROUNDS=200
	$(BIN)/python -m tests.crashes --rounds $(or $(ROUNDS),200)

opt-outs: $(READY)  ## let anything happen to opt-outs; SEQUENCES=20000 SEED=1
	$(BIN)/python -m tests.opt_outs --sequences $(or $(SEQUENCES),1000) $(if $(SEED),--seed $(SEED))

images: $(READY)  ## take the pictures of Dagster's UI in docs/images anew; needs Chromium
	$(BIN)/python -m tests.browser.images

# Needs uv (`pip install uv`); `requirements.lock` holds hashes for all platforms and no addresses.
lock:
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --extra dev --upgrade \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --upgrade \
	  --custom-compile-command "make lock" benchmarks/dlt/requirements.in -o benchmarks/dlt/requirements.lock

clean:
	rm -rf .venv .local build *.egg-info

$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv ..." >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock >&2
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@
