# `make demo` and `make test` do everything on a fresh clone; the rest is for those who change the code.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow coverage lint audit readme docs ship venv ray clean

demo: venv
	$(BIN)/daogou demo

test: venv
	scripts/test

slow: venv
	scripts/test -m slow

# Lines that the everyday suite runs; fails below 95 % of them. Twice the suite's time.
coverage: venv
	scripts/coverage

lint: venv
	scripts/check

audit: venv
	$(BIN)/python scripts/audit

readme: venv
	scripts/readme

# The site lands in site/; `python -m http.server -d site` shows it, with its search.
docs: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	scripts/docs

ship: venv
	scripts/ship

# Half a gigabyte; without it the tests of several processes skip and say so.
ray: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'

venv: .venv/installed

# torch comes first so that its pin decides which build is taken before anything else asks for one.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,baselines,public]'
	touch $@

clean:
	rm -rf .venv site
