# `make demo` and `make test` do everything on a fresh clone; the rest is for those who change the code.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow lint venv clean

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,baselines,public]'
	touch $@

demo: venv
	$(BIN)/daogou demo

test: venv
	$(BIN)/python -m pytest -m "not slow"

slow: venv
	$(BIN)/python -m pytest -m slow

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy daogou

clean:
	rm -rf .venv
