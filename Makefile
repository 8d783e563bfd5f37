# make demo   set up and explain a network on built-in faces, offline
# make test   set up and pass the tests
PYTHON ?= python3
INSTALLED := .venv/installed

.PHONY: demo test lint types clean

demo: $(INSTALLED)
	.venv/bin/dissectdb demo

test: $(INSTALLED)
	.venv/bin/python -m pytest -n 2 --dist loadfile

lint: types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(INSTALLED)
	rm -rf build/types && mkdir -p build/types/dissectdb
	cd build/types && ln -s ../../bench . && \
		cd dissectdb && ln -s ../../../dissectdb/* ../../../extract ../../../warehouse ../../../reports .
	cd build/types && ../../.venv/bin/mypy --config-file ../../pyproject.toml -p dissectdb -p bench

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(INSTALLED)

clean:
	rm -rf .venv build demo
