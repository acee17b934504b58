# Every target makes .venv and installs by itself. `make demo` is the place to start.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# The libraries are compiled as they are imported, a few of their many files; that must be kept to pay.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo space test fast check resolve bench compare site audit clean

demo: $(INSTALLED)  ## the whole product on tiny trained models: resolve, merge, evolve, push, load back, chat
	$(BIN)/hubmerge demo

space: $(INSTALLED)  ## the web app on the demo models, at http://127.0.0.1:7860
	$(BIN)/hubmerge space --demo

test: $(INSTALLED)  ## the whole suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

fast: $(INSTALLED)  ## the suite without its slow tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# The last numpy for Python 3.10 does not say what its arrays hold where nothing is said.
check: $(INSTALLED)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2 $(shell $(BIN)/python -c 'import numpy as n; print("--allow-any-generics" * (n.__version__ < "2.3"))')

resolve: $(INSTALLED)  ## whether constraints.txt can be met on the oldest Python; nothing is installed
	$(BIN)/uv pip compile --quiet --python-version 3.10 -c constraints.txt --extra dev pyproject.toml -o /dev/null

bench: $(INSTALLED)  ## hubmerge beside plain file I/O and, where it is installed, mergekit
	$(BIN)/python benchmarks/merge.py

compare: $(INSTALLED)  ## agreement with mergekit, which this installs
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,mergekit]'
	$(BIN)/python -m pytest tests/test_mergekit.py

site: $(INSTALLED)  ## the pages of docs/ as a site, in site/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

audit: $(INSTALLED)  ## known vulnerabilities of what is installed (asks the package index), and sbom.json, a list of it (asks nobody)
	$(BIN)/python -m pip install --quiet pip-audit cyclonedx-bom
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o sbom.json
	$(BIN)/pip-audit --local --skip-editable

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

clean:  ## what can be made again
	rm -rf .venv dist build site sbom.json .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
