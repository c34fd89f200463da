# make quickstart   install, then run a sweep of a few minutes: 24 sparse models and their Pareto front
# make test         install, then run lint, types and all tests except the slow ones
# make browser      install Chromium for the tests of the report (Debian, as root)
# make fast         install, then run the unit tests on all cores, except those that take seconds each
# make test-cluster start a Ray cluster on hosts that are network namespaces, and cut one off (root on Linux; eight minutes)
# make docs         install, then build the documentation site into site/
# make notebooks    run the notebooks again and store their outputs
# make reference    regenerate the command reference in docs/ after changing a command
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
COMMA := ,
DOCS_READY := .venv/.ready-docs

.PHONY: browser quickstart test lint types tests fast slow test-cluster docs reference notebooks clean

quickstart: $(READY)
	$(BIN)/python -m st3sweep run search_spaces/quickstart.yaml

# Types are checked beside the tests, which wait for processes now and then.
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 lint types tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Three at a time, since the long ones wait for processes a good part of their time; each process begins with a third of
# those, and takes tests from the others when it has no more.
tests: $(READY)
	$(BIN)/python -m pytest -m "not slow" --numprocesses 3 --dist worksteal tests/browser tests/integration tests/contracts tests/unit

# The tests of the report open it in a browser; without one they are skipped, except under CI.
browser:
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null || { \
	    [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	    && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	    || echo "no browser, and none could be installed: apt-get install chromium"

fast: $(READY)
	$(BIN)/python -m pytest tests/unit -m "not slow and not long" --hypothesis-profile fast --numprocesses auto --dist loadfile

slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-cluster: $(READY)
	$(BIN)/python -m pytest -m cluster --capture no -v tests/cluster

docs: $(DOCS_READY)
	$(BIN)/python docs/command_reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

reference: $(READY)
	$(BIN)/python docs/command_reference.py

# Run every notebook but own_network, which trains, and store its outputs.
notebooks: $(READY)
	$(BIN)/python analysis/execute_notebooks.py

# uv takes half of pip's time. It ignores pip's configuration: where that names a package index, and where uv is not to be
# had, pip installs. Byte code is compiled here, on all cores: otherwise the first run does it, in each of its processes.
define INSTALL
{ ! $(BIN)/python -m pip config list | grep -q '[.]index-url=' && \
    { command -v uv > /dev/null || $(BIN)/python -m pip install --quiet uv; } && \
    PATH="$$PATH:$(BIN)" uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt \
        --editable '.[$(1)]'; } || \
{ $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(1)]' && \
    { $(BIN)/python -m compileall -q -j 0 -x '/tests?/' .venv/lib > /dev/null || true; }; }
endef

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "st3sweep needs Python 3.11 or newer; this is " \
	    + sys.version.split()[0] + ". Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "installing into .venv: some gigabytes, a few minutes"
	@$(PYTHON) -m venv --clear .venv
	@$(call INSTALL,dev)
	@touch $(READY)

$(DOCS_READY): $(READY)
	@$(call INSTALL,dev$(COMMA)docs)
	@touch $(DOCS_READY)

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
