# make demo   set up and explain a network on built-in faces, offline
# make test   set up and pass the tests
PYTHON ?= python3
INSTALLED := .venv/installed

.PHONY: demo test lint clean

demo: $(INSTALLED)
	.venv/bin/dissectdb demo

test: $(INSTALLED)
	.venv/bin/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(INSTALLED)

clean:
	rm -rf .venv demo
