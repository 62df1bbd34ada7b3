# Two commands do everything, each setting up .venv by itself: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test test-all torture torture-disks torture-others check format seedling clean

setup: $(READY)

# Versions are those of constraints.txt, which were tested together; pyproject.toml has the ranges.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/graft demo

test: setup
	$(BIN)/pytest -m 'not slow'

test-all: setup
	$(BIN)/pytest

# Runs that are killed, starved of disk, damaged and told to stop, hundreds of times; under 20 minutes on 2 cores, as half
# of the time goes to failing disks, beside all the rest.
torture: setup
	$(MAKE) --jobs=2 --output-sync=target torture-disks torture-others

torture-disks:
	OMP_NUM_THREADS=1 $(BIN)/pytest -rP tests/torture/test_faults.py

torture-others:
	OMP_NUM_THREADS=1 $(BIN)/pytest -rP tests/torture --ignore tests/torture/test_faults.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_layers.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Grows the model that ships with the package again, from nothing; deterministic, under 30 minutes on 2 cores.
seedling: setup
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python scripts/grow_seedling.py

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
