# One set of commands for people and CI. `make help` lists them; .ci/install holds what `install` does.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: another-torch help install archives serve test test-fast check clients bench proof mutants lock docs clean

VENV := .venv
RUN := . $(VENV)/bin/activate && exec
LOCKS := requirements.lock requirements-torch.lock requirements-java.lock
# The part of tests/ that needs neither a model nor a real server; tests marked `slow` or `e2e` are left out.
FAST := conductor_core conductor archives engines test_engines.py test_project_documents.py \
	test_project_hygiene.py test_project_install.py test_project_layers.py test_project_lifecycle.py \
	test_project_promises.py test_project_runtimes.py

# Index for torch when pip's own configuration does not have it; the last part names the build. A CUDA one,
# `make install TORCH_INDEX=https://download.pytorch.org/whl/cu130`, is remembered until `make clean`.
TORCH_INSTALLED := $(shell cat $(VENV)/.torch-index 2>/dev/null)
TORCH_INDEX ?= $(or $(TORCH_INSTALLED),https://download.pytorch.org/whl/cpu)
export TORCH_INDEX

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

install: $(VENV)/.installed ## create .venv with everything in it: packages, torch, and Java if the machine has none

archives: install ## compile SETTINGS.md into archives/store, for TorchServe alone
	$(RUN) python -m archives

serve: install ## build what is missing, then serve on http://127.0.0.1:8000 (ARGS="--port 9000")
	$(RUN) conductor serve $(ARGS)

test: check archives ## the whole suite, on the real TorchServe and the demo model
	$(RUN) python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: install ## the tests that need neither a model nor a real server, in less than a minute
	$(RUN) python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not e2e and not proof" $(addprefix tests/,$(FAST)) $(ARGS)

check: install ## lint, format, strict types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

clients: install ## third-party clients, unmodified: MCP suite, inspector, libraries as a table; the page's own JavaScript
	$(RUN) python tests/clients/mcp/run.py
	$(RUN) python tests/clients/page/run.py
	$(RUN) python tests/clients/libraries/run.py $(ARGS)

bench: install ## the gateway beside the library called directly, as a table
	$(RUN) conductor bench --self-serve $(ARGS)

proof: install ## the long tests that `make test` leaves out, such as a fresh clone
	$(RUN) python -m pytest -m proof --timeout 3600 $(ARGS)

mutants: install ## the tests against changed decisions, a quarter of an hour; docs/mutants.md explains what survives
	$(VENV)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-mutants.lock
	$(RUN) mutmut run --max-children 2 $(ARGS)
	$(RUN) mutmut results

lock: install ## resolve pyproject.toml again into requirements*.lock
	.ci/lock

docs: install ## rewrite the generated parts of ARCHITECTURE.md and docs/engines.md
	$(RUN) python .ci/documents.py
	$(RUN) python .ci/engine_tables.py

clean: ## remove .venv, archives and caches; models/ and .conductor/ stay
	rm -rf $(VENV) archives/store build logs mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(LOCKS) pyproject.toml .ci/install .ci/activate.py $(if $(filter $(TORCH_INDEX),$(TORCH_INSTALLED)),,another-torch)
	.ci/install $(VENV)
