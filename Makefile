# The two commands are `make demo` and `make test`; the others serve development.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
BROKER ?=
BACKEND ?=

.PHONY: demo test lint types bench clean

demo: $(VENV)/demo.stamp
	@$(BIN)/python docs/examples/demo.py $(if $(BROKER),--broker '$(BROKER)') $(if $(BACKEND),--backend '$(BACKEND)')

test: $(VENV)/test.stamp
	@tests/start-servers
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --numprocesses 3 $(PYTEST_ARGS)

lint: $(VENV)/test.stamp
	@$(BIN)/ruff check .

types: $(VENV)/test.stamp
	@$(BIN)/mypy

bench: $(VENV)/test.stamp
	@tests/start-servers
	@$(BIN)/pip install --quiet 'dramatiq[rabbitmq,redis]' matplotlib
	@$(BIN)/python benchmarks/compare.py

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'canvaslite needs Python 3.10 or newer; none was found on the PATH.' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'Python has no venv module here. Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }

$(VENV)/demo.stamp: $(BIN)/python setup.cfg pyproject.toml
	@echo 'Installing canvaslite and its dependencies into $(VENV) ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[redis,sql]'
	@$(BIN)/python -m compileall -q canvaslite
	@touch $@

$(VENV)/test.stamp: $(BIN)/python setup.cfg pyproject.toml
	@echo 'Installing canvaslite, its dependencies and the test tools into $(VENV) ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,test,lint]'
	@$(BIN)/python -m compileall -q canvaslite
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .tox .hypothesis
