# Two commands do everything: `make quickstart` and `make test`. Each target sets itself up in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
DOCS_MADE := build/docs docs/_build docs/api docs/auto_examples
SKMETA_DATA_HOME ?= $(abspath $(wildcard ../shared/data))
export SKMETA_DATA_HOME
# One thread each: small tensors gain nothing from two, and lose much on a busy machine.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: quickstart test test-slow lint format bench docs clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/python docs/examples/quickstart.py

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Hours: what is in build/ already is not run again.
bench: $(STAMP)
	$(BIN)/python benchmarks/sinusoid.py
	$(BIN)/python benchmarks/real_tables.py --parts build/tables
	$(BIN)/python benchmarks/real_classes.py --parts build/classes
	$(BIN)/python benchmarks/restoration.py
	$(BIN)/python benchmarks/restoration.py --patches
	$(BIN)/python benchmarks/unrolled.py
	$(BIN)/python benchmarks/nonlinear.py
	$(BIN)/python benchmarks/gan.py
	$(BIN)/python benchmarks/schools.py --parts build/classes
	$(BIN)/python benchmarks/heart.py --parts build/classes
	$(BIN)/python benchmarks/metasvc.py
	$(BIN)/python benchmarks/svm_head.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/omniglot.py
	$(BIN)/python benchmarks/reconstruction.py

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $(DOCS_STAMP)

# Into docs/_build. Anew each time: figures and tables show what the code does now. Every example is
# run from top to bottom, and every warning is an error; nothing is downloaded.
docs: $(DOCS_STAMP)
	rm -rf $(DOCS_MADE)
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/docs docs docs/_build
	@echo "Open docs/_build/index.html"

clean:
	rm -rf $(VENV) $(DOCS_MADE) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
