# Every target sets itself up: its own virtual environment, from the files whose hashes
# requirements.txt holds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
PYTHONS := 3.11 3.12 3.13
# The command of a Python: on the path, or of pyenv.
find_python = for p in python$$v $$HOME/.pyenv/versions/$$v.*/bin/python; do \
	$$p -c "" 2> /dev/null && echo $$p && break; done

.PHONY: demo test test-all test-pythons test-short lint lock docs bench clean

demo: $(READY)
	$(BIN)/gvtnets demo --out demo --force

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

# All of it; other backends and torch files in an environment of their own; each Python found.
test-all: $(READY) .venv-backends/.ready test-pythons
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	.venv-backends/bin/python -m pytest tests/test_backends.py tests/zoo/test_conversion.py

# A short test on every Python that is installed, each in an environment of its own.
test-pythons:
	@own=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for v in $(PYTHONS); do p=$$($(find_python)); \
		echo "Python $$v: $${p:-not found, not tested}"; done; \
	for v in $(PYTHONS); do p=$$($(find_python)); test -n "$$p" || continue; \
		test $$v = $$own && e=$(VENV) || e=.venv-$$v; \
		$(MAKE) --no-print-directory test-short PYTHON=$$p VENV=$$e || exit 1; done

test-short: $(READY)
	$(BIN)/python -m pytest -m "not slow" tests/test_package.py tests/test_cli.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The variable silences the theme's note on its successor.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What is installed, anew from setup.cfg and constraints.txt; the one target that needs uv.
lock:
	$(PYTHON) lock.py

bench: $(READY)
	$(BIN)/python benchmarks/run.py

$(READY): setup.cfg requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation --use-pep517 -e .
	touch $@

# PyTorch without CUDA comes from an index of its own: versions are pinned, hashes are not.
.venv-backends/.ready: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-backends
	.venv-backends/bin/python -m pip install -q --upgrade pip
	.venv-backends/bin/python -m pip install -q -c constraints.txt \
		-e ".[dev,torch,safetensors,zarr,tensorboard]" jax
	touch $@

clean:
	rm -rf $(VENV) .venv-* demo build dist
