# make quickstart   install, then a sweep of a few minutes: twenty-four sparse networks and their Pareto front
# make test         install, then lint, types and the tests
# make fast         install, then the unit tests on all cores
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test lint types tests fast slow clean

quickstart: $(READY)
	$(BIN)/python -m st3sweep run search_spaces/quickstart.yaml

test: lint types tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	$(BIN)/python -m pytest -m "not slow"

fast: $(READY)
	$(BIN)/python -m pytest tests/unit -m "not slow" --numprocesses auto --dist loadfile

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Byte code is compiled while installing: otherwise the first run does it, in every one of its processes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "st3sweep needs Python 3.11 or newer; this is " \
	    + sys.version.split()[0] + ". Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "installing into .venv: some gigabytes, a few minutes"
	@if command -v uv > /dev/null; then \
	    uv venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv && \
	    uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[dev]'; \
	else \
	    $(PYTHON) -m venv --clear .venv && \
	    $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(READY)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
