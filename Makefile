# Every target sets itself up: its own virtual environment, pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
EXTRAS := zarr,io,care,dask,onnx,litert,tensorboard,czi,nd2,bioimageio,serving

.PHONY: demo test test-all lint docs bench clean

demo: $(READY)
	$(BIN)/gvtnets demo --out demo --force

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

# All of it; other backends and torch files in an environment of their own.
test-all: $(READY) .venv-backends/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	.venv-backends/bin/python -m pytest tests/test_backends.py tests/zoo/test_conversion.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The variable silences the theme's note on its successor.
docs: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python benchmarks/run.py

$(READY): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[$(EXTRAS),dev]"
	touch $@

.venv-backends/.ready: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-backends
	.venv-backends/bin/python -m pip install -q --upgrade pip
	.venv-backends/bin/python -m pip install -q -c constraints.txt -e ".[dev,torch,safetensors]" jax
	touch $@

clean:
	rm -rf $(VENV) .venv-backends demo build dist
