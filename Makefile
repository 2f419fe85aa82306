# Every target makes the environment that it needs. To begin with, a machine has Python 3.11 or 3.12 and make.
# Another interpreter: make test PYTHON=/path/to/python

PYTHON ?= $(shell if python3.11 -c '' 2>/dev/null; then echo python3.11; else echo python3; fi)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
EXTRAS := test,dev,docs
# A second environment, because scikit-learn-extra needs numpy below 2.
EXTRA_VENV := .venv-sklearn-extra
EXTRA_CONSTRAINTS := constraints-sklearn-extra.txt
EXTRA_EXTRAS := test,sklearn-extra
# What a user's installation takes, and containers: without tests and tools.
RUNTIME_CONSTRAINTS := constraints-runtime.txt
DIST_VENV := .venv-dist
# CI's torch: of this release a build without CUDA is found where one is offered.
TORCH := 2.13.0
# One thread a process, and a process a core up to four: each loads torch and fits the shared studies anew.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

# The stamp is the last thing that a set-up writes, and the first that the next one removes: what was interrupted begins anew.
STAMP := $(VENV)/.complete
EXTRA_STAMP := $(EXTRA_VENV)/.complete

.PHONY: help demo test test-slow test-sklearn-extra lint format types docs dist check constraints clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F '\t' '{ printf "make %-20s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## the whole method on a small made-up cohort, into demo-output/
	$(BIN)/augment demo --out demo-output --force
	@echo "The demo is done: what it made lies in demo-output/."

test: $(STAMP)  ## the tests, without the slow ones
	$(PYTEST) $(ARGS)

test-slow: $(STAMP)  ## the slow tests alone
	$(PYTEST) -m slow $(ARGS)

# The import comes first: without it the tests would be skipped, and pass.
test-sklearn-extra: $(EXTRA_STAMP)  ## the choice of centroids beside scikit-learn-extra and numpy 1
	$(EXTRA_VENV)/bin/python -c "import sklearn_extra.cluster"
	$(EXTRA_VENV)/bin/python -m pytest tests/augment/geometry/test_centroids.py $(ARGS)

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMP)  ## the documentation as a site, into site/, without a warning; and its tutorials, run
	$(BIN)/sphinx-build -q -W --keep-going -c docs . site
	$(PYTEST) -m slow tests/system/test_tutorials.py

# The tools that build are not the program's, and are not pinned: a release is made by what is current.
dist:  ## wheel and source distribution into dist/, checked, and tried in an empty environment
	rm -rf dist build $(DIST_VENV)
	$(PYTHON) -m venv $(DIST_VENV)
	$(DIST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check build twine check-wheel-contents cffconvert
	$(DIST_VENV)/bin/python -m build --quiet
	$(DIST_VENV)/bin/twine check --strict dist/*
	$(DIST_VENV)/bin/check-wheel-contents dist/*.whl
	$(DIST_VENV)/bin/cffconvert --validate
	rm -rf $(DIST_VENV)
	$(PYTHON) -m venv $(DIST_VENV)
	$(DIST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(RUNTIME_CONSTRAINTS)
	$(DIST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	$(DIST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-index dist/*.whl
	@set -ex; augment=$$(pwd)/$(DIST_VENV)/bin/augment; cd $$(mktemp -d); trap 'rm -rf $$PWD' EXIT; \
		$$augment fit --data demo --plane coronal --size 24x24 --steps 30; $$augment generate -n 3 --out synthetic; $$augment show synthetic --out sheet.png
	rm -rf $(DIST_VENV)

check: test lint types test-sklearn-extra docs dist  ## all that CI runs

# $(call set_up,folder,constraints,extras)
# Nothing is installed that is not, to the last byte, what the constraints were written with; but torch, of which an index may offer a
# build that PyPI has not, and what such a build brings for GPUs. What pyproject.toml asks for and the constraints lack is refused at the end.
define set_up
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "$(PYTHON) is not Python 3.11 or 3.12; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -e $(1)/.complete || rm -rf $(1)
	rm -f $(1)/.complete
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-build-isolation -e '.[$(3)]' \
		|| { echo "$(2) is not of this pyproject.toml: run make constraints" >&2; exit 1; }
	touch $(1)/.complete
endef

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(call set_up,$(VENV),$(CONSTRAINTS),$(EXTRAS))

$(EXTRA_STAMP): pyproject.toml $(EXTRA_CONSTRAINTS)
	$(call set_up,$(EXTRA_VENV),$(EXTRA_CONSTRAINTS),$(EXTRA_EXTRAS))

# One file for every platform and both Pythons, with the hashes of all files of a release.
constraints:  ## resolve anew what CI runs with, into constraints*.txt
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --disable-pip-version-check uv
	@set -e; for target in "$(CONSTRAINTS) $(EXTRAS)" "$(EXTRA_CONSTRAINTS) $(EXTRA_EXTRAS)" "$(RUNTIME_CONSTRAINTS)"; do \
		set -- $$target; \
		echo "torch==$(TORCH)" | .venv-constraints/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-package torch \
			--universal --fork-strategy fewest --python-version 3.11 --generate-hashes $${2:+$$(echo ",$$2" | sed 's/,/ --extra /g')} pyproject.toml - \
			> $$1.resolved; \
		{ \
			echo "# What CI runs with beside torch $(TORCH): a fresh resolution of pyproject.toml$${2:+ with its extras $$2}."; \
			echo "# Written by 'make constraints', never by hand."; \
			awk '/^[^ #]/ { of_torch = /^(triton==|nvidia-|cuda-)/ } !of_torch' $$1.resolved; \
		} > $$1.new; \
		rm $$1.resolved; \
		mv $$1.new $$1; \
	done; rm -rf .venv-constraints

clean:  ## remove the environments and what tools left behind; results stay
	rm -rf $(VENV) $(EXTRA_VENV) $(DIST_VENV) .venv-constraints build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find augment classifiers datasets experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
