# make demo   set up and explain a network on built-in faces, offline
# make test   set up and pass the tests
# make docs   the documentation as a site, in build/site
# make pictures   the pictures of the documentation, anew
# make release    dist/, built, checked, and tried in fresh environments of each Python
PYTHON ?= python3
PYTHONS ?= python3.11 python3.13
INSTALLED := .venv/installed

.PHONY: demo test docs pictures lint types release clean

demo: $(INSTALLED)
	.venv/bin/dissectdb demo

test: $(INSTALLED)
	.venv/bin/python -m pytest -n 2 --dist loadfile

# Strict: a link or an anchor that leads nowhere is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

pictures: $(INSTALLED)
	.venv/bin/python docs/site/pictures.py

lint: types docs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(INSTALLED)
	rm -rf build/types && mkdir -p build/types/dissectdb
	cd build/types && ln -s ../../bench . && \
		cd dissectdb && ln -s ../../../dissectdb/* ../../../extract ../../../warehouse ../../../reports ../../../serve .
	cd build/types && ../../.venv/bin/mypy --config-file ../../pyproject.toml -p dissectdb -p bench

# The tools have an environment of their own: the one of the tests need not agree with them.
release: $(INSTALLED)
	rm -rf dist build/release
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check build twine
	build/release/bin/python -m build
	build/release/bin/python -m twine check --strict dist/*
	.venv/bin/python -m tests.support.release_trial $(PYTHONS)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs,test]'
	touch $(INSTALLED)

clean:
	rm -rf .venv build demo dist
