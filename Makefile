# Two commands do everything: `make sweep` runs the shipped study, `make test` the test suite.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := $(shell grep '^torch==' requirements/cpu.lock)

.PHONY: setup sweep test check lock clean

setup: $(VENV)/.ready

sweep: $(VENV)/.ready
	$(BIN)/sweep run tiny
	$(BIN)/sweep report tiny --output report.html

test: $(VENV)/.ready
	$(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch comes from PyTorch's CPU index first; where that is out of reach, from wherever pip is configured to look.
# No dependency is resolved: the lock holds them all, less those whose only builds need a GPU.
$(VENV)/.ready: requirements/cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "make: the CPU profile needs Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --timeout 15 --retries 0 \
		--index-url https://download.pytorch.org/whl/cpu "$(TORCH)" 2>/dev/null || \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/cpu.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import torch, sys; v = torch.version.cuda; sys.exit(v and f"make: torch {torch.__version__} is a CUDA build; this profile needs $(TORCH)")'
	@touch $@

# Recompile the lock from cpu.in. uv reads UV_FIND_LINKS where the CPU build of torch is not on an index it knows.
lock: $(VENV)/.ready
	$(BIN)/uv pip compile requirements/cpu.in --override requirements/cpu.overrides --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-annotate --custom-compile-command "make lock" \
		--output-file requirements/cpu.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
