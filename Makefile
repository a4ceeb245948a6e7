# Each target works by itself on a fresh clone: it makes the environment in .venv first.
# Needs Python 3.11 or newer with venv (another one: `make test PYTHON=python3.12`) and a package index for pip.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# One thread a test worker: two workers share the machine, and threads of both would wait for one another.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
DEMO := runs/demo
# More settings for the demo: make demo FLAGS=--train.epochs=1
FLAGS ?=

.PHONY: help demo test check bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a CNN on MNIST, evaluate it, write the report, read one picture (about 5 minutes)"
	@echo "make test    all tests"
	@echo "make check   formatting, lint, types, import layers (under a minute)"
	@echo "make docs    run the commands and files that the documentation shows"
	@echo "make bench   compare with other libraries; writes benchmarks/RESULTS.md (hours)"
	@echo "make clean   remove the environment and caches; Runs stay"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/modelworks train recipes/mnist-cnn.yaml --name demo --overwrite $(FLAGS)
	$(BIN)/modelworks evaluate $(DEMO)
	$(BIN)/modelworks report $(DEMO)
	@mkdir -p build/demo
	@$(BIN)/python -c 'from PIL import Image; import modelworks; row = modelworks.open("sample:mnist").take([60000]); Image.fromarray(row.column("image").chunk(0).to_numpy_ndarray()[0]).save("build/demo/digit.png")'
	$(BIN)/modelworks predict $(DEMO) build/demo --output build/demo-answer.csv
	@cat build/demo-answer.csv
	@echo "report: $(CURDIR)/$(DEMO)/report.html"

test: $(INSTALLED)
	$(TEST) -n 2

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: $(INSTALLED)
	$(TEST) tests/docs

bench: $(INSTALLED)
	for file in benchmarks/[!_]*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
