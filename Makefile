# `make demo` and `make test` set up everything they need; nothing but Python 3.11 or later has to be there.
PYTHON ?= python3
BIN := .venv/bin
NATIVE := $(wildcard src/repfold/engine/native/*.cpp tests/engine/native/*.cpp)
X86 := -mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mamx-bf16

.PHONY: demo test lint docs install wheels clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/repfold demo --overwrite

test: install
	@# Three on two cores: many tests wait, for processes that they have started, been killed by or locked out.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE) src/repfold/engine/native/*.h
	@# clang-tidy reads the kernels of every instruction set, and the headers of a C++ compiler.
	! command -v c++ >/dev/null || printf '%s\n' $(NATIVE) | xargs -P 2 -I SOURCE $(BIN)/clang-tidy --quiet SOURCE -- \
	  -std=c++17 -Isrc/repfold/engine/native $(if $(filter x86_64,$(shell uname -m)),$(X86))

docs: install
	$(BIN)/python docs/build.py
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m guides tests/test_guides.py tests/test_notebook.py

wheels: build/wheels-installed
	build/wheels-venv/bin/python packaging/wheels.py

build/wheels-installed: packaging/requirements.txt
	$(PYTHON) -m venv build/wheels-venv
	build/wheels-venv/bin/python -m pip install --quiet --constraint constraints.txt --requirement $<
	touch $@

clean:
	rm -rf .venv build dist
