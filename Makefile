# Everything a developer does with this repository. Needs Python 3.11 or newer and make; all else is
# installed into .venv, again only when a list of requirements changes.

.DEFAULT_GOAL := help
SHELL := /bin/bash
# Take another interpreter with `make clean test PYTHON=/path/to/python3.13`.
PYTHON ?=
# Arguments for pytest: `make sqlite ARGS="-k replay -x"`.
ARGS ?=
# `make test STRICT=1`: a ring that cannot run here is a failure.
STRICT ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
MANAGE := $(BIN)/python -m testproject.manage
RINGS := $(BIN)/python -m tests.support.rings
RING_NAMES := lint types layers sqlite sqlite-modes postgresql pgbouncer mariadb browser hammer \
    operations redis base dist

##@ See it

.PHONY: demo
demo: $(VENV)/.shop ## play lost replies, races and killed workers against the cake shop
	@$(BIN)/python -m testproject.demo

.PHONY: serve
serve: $(VENV)/.shop ## open the cake shop (user demo, password demo); REDIS=1: with a Valkey
	@$(BIN)/python -m testproject.serve $(if $(REDIS),--redis)

##@ Test it

.PHONY: quick
quick: $(VENV)/.dev ## before each commit, in 90 s: lint, types, layers, the fast tests on SQLite
	@$(RINGS) --jobs 2 lint types layers quick $(if $(ARGS),-- $(ARGS))

.PHONY: test
test: $(VENV)/.dev ## all of the rings below, with a summary at the end
	@$(RINGS) --jobs 2 $(if $(STRICT),--strict) $(if $(ARGS),-- $(ARGS))

.PHONY: $(RING_NAMES)
lint:         ## style: ruff check, ruff format
types:        ## mypy, strict
layers:       ## imports go downward only
sqlite:       ## the test suite on SQLite
sqlite-modes: ## races and crashes in SQLite's other modes
postgresql:   ## the test suite on a PostgreSQL that the tests start themselves
pgbouncer:    ## contract, races and crashes behind PgBouncer (needs pgbouncer)
mariadb:      ## the test suite on MariaDB (needs mariadb-server)
browser:      ## forms in Chromium (needs chromium and chromium-driver)
hammer:       ## 20 s of kills, freezes, cuts and restarts on each database
operations:   ## orders of several steps: kills, outages, deploys, on PostgreSQL and MariaDB
redis:        ## cached replays on a Valkey that the tests start themselves
base:         ## the contract without Django REST framework and django-redis
dist:         ## the built wheel in an empty environment
$(RING_NAMES): $(VENV)/.dev
	@$(RINGS) $@ $(if $(ARGS),-- $(ARGS))

.PHONY: tox
tox: $(VENV)/.dev ## every supported Python and Django that is installed here
	@$(BIN)/python -m tox run $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.dev ## the hammer: make chaos SECONDS=600 DATABASE=mariadb SEED=7
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) \
	    --database $(or $(DATABASE),postgresql) $(if $(CACHE),--cache $(CACHE)) $(ARGS)

.PHONY: durable
durable: $(VENV)/.dev ## 500 kills among orders of five steps: make durable KILLS=500 DATABASE=mariadb
	@$(BIN)/python -m tests.durable --kills $(or $(KILLS),500) --seed $(or $(SEED),1) \
	    --database $(or $(DATABASE),postgresql) $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.dev ## break the protocol in every known way; which test noticed
	@$(BIN)/python -m tests.support.mutants $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## 10,000 hostile keys and bodies
	@IDEMPOTENCY_TEST_FUZZ=2000 $(BIN)/python -m pytest -q -s --timeout 900 \
	    tests/contract/test_fuzz.py $(ARGS)

.PHONY: schemathesis
schemathesis: $(VENV)/.dev ## the shop's API against its own OpenAPI schema, for two minutes
	@IDEMPOTENCY_TEST_EXAMPLES=300 $(BIN)/python -m pytest -q -s --timeout 900 \
	    tests/clients/test_schemathesis.py $(ARGS)

.PHONY: stripe
stripe: $(VENV)/.dev ## 200 calls of stripe-python through a tunnel that loses replies
	@IDEMPOTENCY_TEST_CALLS=200 $(BIN)/python -m pytest -q -s tests/clients/test_stripe.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.bench ## measure all, and draw it: make bench ONLY="views load" QUICK=1
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ONLY) $(if $(ARGS),-- $(ARGS))

.PHONY: coverage
coverage: $(VENV)/.dev ## the test suite on SQLite, with the lines it misses
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

##@ Work on it

.PHONY: install
install: $(VENV)/.dev ## create or update .venv

.PHONY: format
format: $(VENV)/.dev ## let ruff sort imports, fix what it can and format
	@$(BIN)/python -m ruff check --fix --quiet .; $(BIN)/python -m ruff format .

.PHONY: migrations
migrations: $(VENV)/.shop ## write the migrations that the models ask for
	@$(MANAGE) makemigrations
	@DJANGO_SETTINGS_MODULE=testproject.provider.settings $(MANAGE) makemigrations provider

.PHONY: sql
sql: $(VENV)/.dev ## write the files that show every SQL statement of the app
	@$(BIN)/python -m tests.unit.storage.golden

.PHONY: messages
messages: $(VENV)/.shop ## update and compile the translations (needs gettext)
	@cd django_idempotency && ../$(BIN)/python -P -m django makemessages --all --no-wrap \
	    --add-location file --no-obsolete
	@cd django_idempotency && ../$(BIN)/python -P -m django compilemessages --verbosity 0

.PHONY: docs
docs: $(VENV)/.dev ## build the documentation into docs/_build
	@$(BIN)/python -m tox --quiet run -e docs

.PHONY: clean
clean: ## remove everything that the commands above made
	@rm -rf $(VENV) .bench .tox build dist docs/_build *.egg-info htmlcov .coverage .coverage.* \
	    .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find django_idempotency testproject tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":[^#]*## " } \
	    /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environment. A command such as python3.13 may be there and yet not run, and a venv that was
# interrupted while it was made has no pip: both are tried, not looked for.

$(VENV)/.shop: setup.cfg requirements/shop.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory venv
	@echo "installing the shop into $(VENV) ..."
	@$(PIP) --editable '.[all]' --requirement requirements/shop.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.shop tests/requirements.txt $(wildcard requirements/*.txt)
	@echo "installing the tools into $(VENV) ..."
	@$(PIP) --requirement requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@echo "installing what draws the plots into $(VENV) ..."
	@$(PIP) --requirement requirements/bench.txt
	@touch $@

.PHONY: venv
venv:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	        >/dev/null 2>&1; then \
	        echo "creating $(VENV) with $$($$python --version) ..."; \
	        exec $$python -m venv --clear $(VENV); \
	    fi; \
	done; \
	echo "No Python 3.11 or newer with venv and ensurepip runs here. Install one (on Debian and" >&2; \
	echo "Ubuntu: python3-venv) or say where it is: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1
