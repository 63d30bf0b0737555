# Two commands on a fresh machine with Python >= 3.10 (and Java, for the comparable caption scores):
#
#     make demo    install, generate the mini data, train, test, print the table
#     make test    install, lint, run the fast tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint format install clean

demo: install
	$(BIN)/python train.py experiment=madv2_multi_lcaam scale=mini

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "LCAAM needs Python 3.10 or newer; \
	this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@command -v java >/dev/null || echo "note: no Java found; caption scores will be computed on plain tokens"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[lab,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
