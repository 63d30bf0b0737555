# Two commands on a fresh machine with Python >= 3.10 (and Java, for the comparable caption scores):
#
#     make demo    install, generate the mini data, train, test, print the table
#     make test    install, lint, run the fast tests
#
# `make help` lists all targets; CONTRIBUTING.md says what each does and how long it takes. Every target installs the exact
# versions of requirements/lab.txt into .venv first. Other choices, for every target:
#
#     make install PYTHON=python3.12          another Python
#     make install EXTRAS=lab,dev,lora        other extras of pyproject.toml
#     make install LOCK=                      the newest versions that pyproject.toml allows instead of the locked ones
#     make install TORCH_INDEX=<an index>     torch from there, such as the CPU index that torch's install page names
#     make test VENV=elsewhere                another environment than .venv

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= lab,dev
LOCK ?= requirements/lab.txt
TORCH_INDEX ?=
BIN := $(VENV)/bin
# one stamp for each way to install, so that another way installs again
STAMP := $(VENV)/.installed-$(subst /,_,$(or $(LOCK),newest)-$(EXTRAS))
ALL := lab,dev,lora,quantization
LOCKED := lab quantization lora parquet webdataset export dashboard docs dev
# two processes; a file stays in one of them, so that what its tests share is made once. They and the programs that tests
# start write bytecode, whatever the shell says: otherwise each process would compile the project again
RUN := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1
TESTS := -m pytest -n 2 --dist loadfile --no-loadscope-reorder
FAST := -m "not slow"
PIP := -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PINNED := $(if $(LOCK),--constraint $(LOCK) --build-constraint $(LOCK))
TASKS := madv2 qvhighlights imagenet1k msrvtt shakespeare

.DEFAULT_GOAL := help
.PHONY: help demo smoke test test-all test-newest test-lowest lint format docs dist lock install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/    make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-22s%s\n", $$1, $$2}'

demo: install ## generate the mini data, train a small audio describer with masks, print the table
	$(BIN)/python train.py experiment=madv2_multi_lcaam scale=mini

smoke: install ## one run per task at scale=smoke: the whole way from data to table in a minute or two
	@for task in $(TASKS); do \
		OMP_NUM_THREADS=1 $(BIN)/python train.py experiment=$${task}_multi_lcaam scale=smoke seed=0 logger=csv || exit 1; \
	done

test: lint ## lint, then the fast tests
	$(RUN) $(BIN)/python $(TESTS) $(FAST)

test-all: lint ## lint, then all tests, also those that take minutes or gigabytes
	$(RUN) $(BIN)/python $(TESTS)

test-newest: install ## the fast tests with the newest version of everything, in .venv-newest
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-newest
	$(BIN)/uv pip install --quiet --python .venv-newest --upgrade --editable '.[$(ALL)]'
	.venv-newest/bin/python -m scripts.versions
	$(RUN) .venv-newest/bin/python $(TESTS) $(FAST)

test-lowest: install ## the fast tests with every lower bound of pyproject.toml, in .venv-lowest (Python 3.10 or 3.11)
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[$(ALL)]'
	.venv-lowest/bin/python -m scripts.versions
	$(RUN) .venv-lowest/bin/python $(TESTS) $(FAST)

lint: install ## style, types, plain English
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lcaam
	$(BIN)/python -m scripts.prose

format: install ## let ruff correct the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## build the documentation site in site/; a warning is an error
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(LOCK),--constraint $(LOCK)) \
		--requirements pyproject.toml --extra docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

dist: install ## build sdist and wheel in dist/, install each into an empty environment and import it
	rm -rf dist .venv-dist
	$(BIN)/uv build --quiet --out-dir dist $(if $(LOCK),--build-constraint $(LOCK))
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python $(PIP) $(if $(LOCK),--constraint $(LOCK)) --upgrade pip
	.venv-dist/bin/python $(PIP) $(PINNED) dist/*.whl
	cd dist && ../.venv-dist/bin/python -c 'import lcaam; print("wheel:", lcaam.__version__, lcaam.__file__)'
	.venv-dist/bin/python $(PIP) $(PINNED) --no-deps --force-reinstall dist/*.tar.gz
	cd dist && ../.venv-dist/bin/python -c 'import lcaam; print("sdist:", lcaam.__version__, lcaam.__file__)'

lock: install ## write requirements/lab.txt again, from pyproject.toml and requirements/held.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 $(LOCKED:%=--extra %) --upgrade \
		--constraint requirements/held.txt --custom-compile-command "make lock" \
		--output-file requirements/lab.txt pyproject.toml

install: $(STAMP) ## create .venv with the locked versions

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "LCAAM needs Python 3.10 or newer; \
	this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@command -v java >/dev/null || echo "note: no Java found; caption scores will be computed on plain tokens"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint $(LOCK)) --upgrade pip
	$(BIN)/python $(PIP) $(or $(PINNED),--upgrade --upgrade-strategy eager) --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed* && touch $@

clean: ## delete environments, caches and what was built
	rm -rf .venv .venv-newest .venv-lowest .venv-dist .pytest_cache .ruff_cache .mypy_cache build dist site
