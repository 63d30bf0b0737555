# Two commands on a fresh machine with Python >= 3.10 (and Java, for the comparable caption scores):
#
#     make demo    install, generate the mini data, train, test, print the table
#     make test    install, lint, run the fast tests
#
# Both install the exact versions of requirements/lab.txt into .venv. Other choices, for every target:
#
#     make install PYTHON=python3.12          another Python
#     make install EXTRAS=lab,dev,lora        other extras of pyproject.toml
#     make install LOCK=                      the newest versions that pyproject.toml allows instead of the locked ones
#     make install TORCH_INDEX=<an index>     torch from there, such as the CPU index that torch's install page names
#
#     make lock           writes requirements/lab.txt again, from pyproject.toml and requirements/held.txt
#     make test-newest    the fast tests with the newest version of everything, in .venv-newest
#     make test-lowest    the fast tests with every lower bound of pyproject.toml, in .venv-lowest (Python 3.10 or 3.11)

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= lab,dev
LOCK ?= requirements/lab.txt
TORCH_INDEX ?=
BIN := $(VENV)/bin
# one stamp for each way to install, so that another way installs again
STAMP := $(VENV)/.installed-$(subst /,_,$(or $(LOCK),newest)-$(EXTRAS))
ALL := lab,dev,lora,quantization
TESTS := -m pytest -n 2 -m "not slow"

.PHONY: demo test test-all test-newest test-lowest lint format lock install clean

demo: install
	$(BIN)/python train.py experiment=madv2_multi_lcaam scale=mini

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python $(TESTS)

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-newest: install
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-newest
	$(BIN)/uv pip install --quiet --python .venv-newest --upgrade --editable '.[$(ALL)]'
	.venv-newest/bin/python -m scripts.versions
	OMP_NUM_THREADS=1 .venv-newest/bin/python $(TESTS)

test-lowest: install
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[$(ALL)]'
	.venv-lowest/bin/python -m scripts.versions
	OMP_NUM_THREADS=1 .venv-lowest/bin/python $(TESTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lcaam

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: install
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --upgrade \
		--constraint requirements/held.txt --custom-compile-command "make lock" \
		--output-file requirements/lab.txt pyproject.toml

install: $(STAMP)

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "LCAAM needs Python 3.10 or newer; \
	this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@command -v java >/dev/null || echo "note: no Java found; caption scores will be computed on plain tokens"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint $(LOCK)) --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		$(if $(LOCK),--constraint $(LOCK) --build-constraint $(LOCK),--upgrade --upgrade-strategy eager) \
		--editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed* && touch $@

clean:
	rm -rf .venv .venv-newest .venv-lowest .pytest_cache .ruff_cache .mypy_cache
