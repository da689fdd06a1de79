# One front door for every developer command. `make` prints them.
# Written for GNU make; no recipe needs more than a POSIX shell.

PYTHON =                 # the Python to build .venv with; empty: the first suitable one
HOST = 127.0.0.1
PORT ?= 8000
WORKERS = 1
MINUTES = 20
JOBS = 3                 # tests that run side by side; many of them wait, so a few more than there are CPUs
ARGS =                   # more arguments for pytest or the benchmarks: make test ARGS="-k drain"
CODE = src examples tests benchmarks experiments
# The tests of two engines that are slow to start have targets of their own.
RABBITMQ = amqp or rabbitmq
RAY = ray
DISTRIBUTED = distributed-latency distributed-throughput-64 distributed-echo-1MiB distributed-start
MATRIX_TESTS = tests/core tests/engine tests/codec tests/shared tests/transfer
# Not celery, dask and ray: they are large, and have an environment of their own (.venv-distributed).
DEV_EXTRAS = fastapi uvloop prometheus otel progress cli jobs jobs-postgresql examples
# All but those that have a target of their own: test-examples, test-servers, test-cluster.
TESTS = $(filter-out $(addprefix tests/,__pycache__ examples deploy benchmarks servers cluster remote),$(patsubst %/,%,$(wildcard tests/*/))) \
	$(wildcard tests/test_*.py)
QUICK_TESTS = tests/core tests/engine tests/codec tests/shared tests/transfer tests/usercode tests/worker tests/backends \
	tests/test_chunks.py tests/test_config.py tests/test_errors.py tests/test_pool.py tests/test_statistics.py
# What starts programs, moves much memory, or tries hundreds of ways: not for the inner loop.
NOT_QUICK = $(addsuffix .py,--ignore=tests/core/test_overload $(addprefix --ignore=tests/engine/test_,ahead batching beside_the_loop \
	big_payloads clean_template daemonic descendants foreign_code forked_server hooks_that_fail initargs main_kinds \
	main_module nested resources server_life startup surroundings threads views))

BIN = .venv/bin
LOCK = requirements/dev.txt
SERVE_LOCK = requirements/serve.txt
DISTRIBUTED_LOCK = requirements/distributed.txt
SERVERS_LOCK = requirements/servers.txt
DOCS_LOCK = requirements/docs.txt
STAMP = .venv/.stamp
RUN = $(BIN)/python -m

# Whatever the environment says: the suite starts some thousand interpreters, and each would compile the package anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup serve test test-quick test-examples test-servers test-cluster test-rabbitmq test-ray \
	test-compiled serve-cluster stress stress-jobs mutants chromium \
	postgresql promtool fmt lint types bench bench-check bench-smoke bench-distributed docs check matrix coverage \
	build wheel-test lock clean docs-site

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv from the lock file

serve: .venv-serve/.stamp  ## run the reference service (HOST, PORT, WORKERS)
	@HOST=$(HOST) PORT=$(PORT) WORKERS=$(WORKERS) exec .venv-serve/bin/python -m examples.domains

test: $(STAMP) chromium promtool postgresql  ## run the tests of the library (ARGS="-k name")
	$(RUN) pytest -n $(JOBS) --dist worksteal -p no:schemathesis $(TESTS) $(ARGS)

test-examples: $(STAMP) chromium postgresql  ## run the tests of the reference service, every example of the docs, deploy/ and benchmarks/
	$(RUN) pytest -n $(JOBS) --dist worksteal tests/examples tests/deploy tests/benchmarks $(ARGS)

test-quick: $(STAMP)  ## the inner loop: tests without programs, servers and documents, on one event loop, in a minute
	$(RUN) pytest -q -n $(JOBS) --dist worksteal --one-loop $(NOT_QUICK) $(QUICK_TESTS) $(ARGS)

stress: $(STAMP)  ## random faults against a pool (MINUTES; ARGS="--seed 1")
	$(RUN) tests.stress --minutes $(MINUTES) $(ARGS)

stress-jobs: $(STAMP) postgresql  ## 10,000 jobs under random kills, on SQLite and PostgreSQL (ARGS="--servers 4")
	$(RUN) tests.jobs.chaos $(ARGS)

test-servers: .venv-servers/.stamp  ## run it under each server and in each framework that the docs name
	.venv-servers/bin/python -m pytest -n $(JOBS) --dist worksteal tests/servers/every_server.py $(ARGS)

mutants: $(STAMP)  ## take promises out of the code, one by one: do the tests notice? (ARGS="worker")
	$(RUN) tests.docs.mutants $(ARGS)

fmt: $(STAMP)  ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lint: $(STAMP)  ## style, format, spelling, and who may import whom
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/codespell $(CODE) *.md docs

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy --strict $(CODE)

bench: $(STAMP)  ## measure lifepool against its peers
	$(RUN) benchmarks $(ARGS)

bench-check: $(STAMP)  ## did anything get slower? five minutes, on a quiet machine (ARGS="--against HEAD~1")
	$(RUN) benchmarks check $(ARGS)

bench-smoke: $(STAMP)  ## run every benchmark case, too briefly to measure anything
	$(RUN) pytest -n $(JOBS) --dist worksteal tests/benchmarks/every_case.py $(ARGS)

bench-distributed: .venv-distributed/.stamp  ## measure it against Dask, Ray and Celery, on loopback
	@sh scripts/ensure-redis.sh
	@sh scripts/ensure-rabbitmq.sh
	.venv-distributed/bin/python -m benchmarks $(DISTRIBUTED) --loop asyncio --name distributed $(ARGS)

test-cluster: .venv-distributed/.stamp  ## tests of clusters, on real servers: Celery on Redis, and Dask
	@sh scripts/ensure-redis.sh
	.venv-distributed/bin/python -m pytest -n 2 --dist worksteal tests/remote $(ARGS)
	.venv-distributed/bin/python -m pytest -n 2 --dist worksteal tests/cluster -k "not ($(RABBITMQ) or $(RAY))" $(ARGS)

test-rabbitmq: .venv-distributed/.stamp  ## the same on Celery and RabbitMQ
	@sh scripts/ensure-rabbitmq.sh
	.venv-distributed/bin/python -m pytest -n 2 --dist worksteal tests/cluster -k "$(RABBITMQ)" $(ARGS)

test-ray: .venv-distributed/.stamp  ## the same on Ray, which takes minutes to start and stop
	.venv-distributed/bin/python -m pytest tests/cluster -k "not ($(RABBITMQ)) and ($(RAY))" $(ARGS)

serve-cluster: .venv-distributed/.stamp  ## run the reference service on Celery: Redis, two nodes and the service
	@sh scripts/ensure-redis.sh
	@.venv-distributed/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(SERVE_LOCK)
	@HOST=$(HOST) PORT=$(PORT) WORKERS=$(WORKERS) exec .venv-distributed/bin/python -m examples.cluster

docs: $(STAMP)  ## check the documentation, and run its examples
	$(RUN) pytest -n $(JOBS) --dist worksteal tests/docs tests/examples/test_documentation.py $(ARGS)

docs-site: $(STAMP) .venv-docs/.stamp chromium  ## build the documentation's site into site/, and look at every link of it
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	$(RUN) pytest -q tests/docs/built_site.py $(ARGS)

check: lint types test test-examples test-servers test-cluster test-rabbitmq test-ray test-compiled matrix bench-smoke docs-site  ## everything a change must pass

matrix: $(STAMP)  ## core and engine tests on the other Pythons of this machine
	@sh scripts/matrix.sh $(MATRIX_TESTS)

test-compiled: $(STAMP)  ## the same tests on the wheel with compiled modules, built for it
	@sh scripts/compiled.sh -n $(JOBS) --dist worksteal $(NOT_QUICK) $(MATRIX_TESTS) $(ARGS)

coverage: $(STAMP) chromium promtool postgresql  ## all tests with branch coverage, workers included
	$(RUN) coverage erase
	$(RUN) pytest --cov --cov-report= $(ARGS)
	$(RUN) coverage report

build: $(STAMP)  ## build the sdist, and the wheel from it, into dist/
	rm -rf dist
	$(RUN) build --no-isolation

wheel-test: build  ## install the built files into fresh environments, and do there what the README says
	@sh scripts/make-venv.sh .venv-wheel "$(PYTHON)" dist/*.whl
	.venv-wheel/bin/python -m pytest tests/test_packaging.py $(MATRIX_TESTS)
	$(RUN) tests.release dist/*.whl dist/*.tar.gz

lock:  ## choose new versions and write the lock files
	sh scripts/lock.sh $(LOCK) $(addprefix --extra ,$(DEV_EXTRAS)) --group dev
	sh scripts/lock.sh $(SERVE_LOCK) --extra examples --group install --constraint $(LOCK)
	sh scripts/lock.sh $(DISTRIBUTED_LOCK) $(addprefix --extra ,fastapi prometheus otel cli) --group distributed \
		--constraint $(LOCK)
	sh scripts/lock.sh $(SERVERS_LOCK) --extra fastapi --group servers --constraint $(LOCK)
	INPUT=requirements/docs.in sh scripts/lock.sh $(DOCS_LOCK) --constraint $(LOCK)

clean:  ## remove everything that make made
	rm -rf .promtool .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist site
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

chromium:
	@sh scripts/ensure-chromium.sh

postgresql:
	@sh scripts/ensure-postgresql.sh

promtool:
	@sh scripts/ensure-promtool.sh

$(STAMP): pyproject.toml $(LOCK)
	@sh scripts/make-venv.sh .venv "$(PYTHON)"

.venv-serve/.stamp: pyproject.toml $(SERVE_LOCK)
	@LOCK=$(SERVE_LOCK) sh scripts/make-venv.sh $(@D) "$(PYTHON)"

.venv-distributed/.stamp: pyproject.toml $(DISTRIBUTED_LOCK)
	@LOCK=$(DISTRIBUTED_LOCK) sh scripts/make-venv.sh $(@D) "$(PYTHON)"

.venv-servers/.stamp: pyproject.toml $(SERVERS_LOCK)
	@LOCK=$(SERVERS_LOCK) sh scripts/make-venv.sh $(@D) "$(PYTHON)"

.venv-docs/.stamp: pyproject.toml $(DOCS_LOCK)
	@LOCK=$(DOCS_LOCK) sh scripts/make-venv.sh $(@D) "$(PYTHON)"

.venv-3.11/.stamp .venv-3.12/.stamp .venv-3.13/.stamp: pyproject.toml $(LOCK)
	@sh scripts/make-venv.sh $(@D) "$(PYTHON)"
