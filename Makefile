# make demo    set up, then rank the features behind " Sacramento" on the bundled atlas: three tables and demo.html
# make test    set up, then every gate and every test: ruff, pyright, pytest, Chromium, notebooks
# make check   the quick part of that: ruff, pyright, the fast tests
# make lab     JupyterLab on the first notebook
# make bench   the performance claims, each against a baseline measured in the same run
# make notebooks   execute the notebooks anew, in place
# make test-newest, make test-oldest   the fast tests with the newest of all packages, and with the oldest that pyproject.toml allows
# make faults  files damaged in FAULTS=2000 ways, writers killed and starved; prints what became of them
# make licenses    docs/licenses.md anew: what an installation brings, and under which license
# make lock, make install-locked   every package with the hash of its file, for this machine; a .venv-locked of these files (and hatchling, which builds us)
# make screenshots   the pictures of the explorer, from JupyterLab in Chromium

PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/pytest --quiet
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
FAST := "not slow and not browser and not notebook"
TORCH ?= torch
KOBE := "Fact: The capital of the state where Kobe Bryant played basketball is"

.PHONY: demo test test-newest test-oldest check lint lab faults bench notebooks screenshots licenses lock install-locked clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/workbench rank $(KOBE) --answer " Sacramento" --baseline " Albany" \
	  --by effect --by attribution --by activation --html demo.html

test: lint
	$(PYTEST) -n 2 --dist loadscope --no-loadscope-reorder --nbval --nbval-current-env notebooks tests

check: lint
	$(PYTEST) -n 2 --dist loadscope -m $(FAST) tests

lint: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

test-newest test-oldest: test-%: .venv-%/.installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv-$*/bin/pytest --quiet -n 2 --dist loadscope -m $(FAST) tests

lab: .venv/.installed
	$(BIN)/workbench lab notebooks/01_why_sacramento.ipynb

screenshots: .venv/.installed-test
	$(BIN)/python -m notebooks.screenshots

FAULTS ?= 2000
faults: .venv/.installed-test
	FAULTS=$(FAULTS) $(PYTEST) -s tests/faults

bench: .venv/.installed
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

licenses: .venv/.installed-test
	PYTHONPATH=tests/made $(BIN)/python -m licenses > docs/licenses.md

lock: requirements.lock
requirements.lock: pyproject.toml constraints.txt .venv/.installed
	$(PIP) --dry-run --ignore-installed --report - -e '.[test]' | $(BIN)/python tests/made/locked.py > $@

install-locked: requirements.lock
	$(PYTHON) -m venv .venv-locked
	.venv-locked/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	.venv-locked/bin/python -m pip install --quiet --no-deps -e .

notebooks: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m notebooks.execute notebooks/*.ipynb

# torch first and by itself: the build that pip's own settings offer (CPU or CUDA) is then in place when the rest is resolved.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 …")'
	@echo "Setting up .venv: a few minutes the first time, nothing after that"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	$(PIP) -e '.[test]'
	@touch $@

.venv-newest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade $(TORCH)
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager $(TORCH) -e '.[test]'
	@touch $@

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) tests/made/lowest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/constraints.txt torch
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf .venv .venv-newest .venv-oldest .venv-locked requirements.lock build dist demo.html .pytest_cache .ruff_cache
