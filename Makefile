# make demo   see it work          make test   check everything          make help   the rest
#
# Each target sets up what it needs, on a machine that has only Python 3.11 or later, git and make:
# the virtual environment in .venv and, as root on Debian, the packages of the live tests.
# Without those the live tests are skipped; RSP_LAB=required makes that a failure.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
    echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
LOG := $(VENV)/setup.log

# What a step prints goes to the log, and is shown only if the step fails.
quietly = >$(LOG) 2>&1 || { tail -n 25 $(LOG) >&2; echo "make: see $(LOG)" >&2; exit 1; }
apt_install = DEBIAN_FRONTEND=noninteractive apt-get -q update && \
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install

.NOTPARALLEL:
.PHONY: help demo test lint bench soak lab clean

help:
	@echo 'make demo    follow a CPU from 16 to 64 bit: on QEMU, or from a recording without it'
	@echo 'make test    the linters and all tests (live tests: those whose programs are there)'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   the benchmarks, as ratios within one run'
	@echo 'make soak    the live tests five times beside four busy loops (hours)'
	@echo 'make lab     what the live tests need: Debian packages (as root), kernels (some minutes, once)'
	@echo 'make clean   remove what these made in this directory'

demo: $(VENV)/.installed
	@$(BIN)/rsp demo

test: lab lint
	@$(BIN)/python -bb -W error -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# drgn is a peer to be measured against, and nothing else here needs it.
bench: lab
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[bench]' $(quietly)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

# ARGS='--runs 1 --loops 2 -- -k kgdb', for example.
soak: lab
	@PYTHONPATH=tests $(BIN)/python -m lab.soak $(ARGS)

# A failure to install is a message, and the tests that need it say so again. The kernels are
# downloaded and built once, in some minutes, and kept in the user's cache directory.
lab: $(VENV)/.installed-dev
	@missing=$$($(BIN)/python tests/lab/packages.py); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	    echo "installing for the live tests: $$missing"; \
	    ( $(apt_install) $$missing ) >$(LOG) 2>&1 && missing= || tail -n 25 $(LOG) >&2; \
	fi; \
	if [ -z "$$missing" ]; then \
	    $(BIN)/python tests/lab/obtain.py || [ "$$RSP_LAB" != required ]; \
	else \
	    echo "live tests that need them are skipped; to install (as root): apt-get install $$missing" >&2; \
	    [ "$$RSP_LAB" != required ]; \
	fi

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo 'installing gdb-rsp into $(VENV)'
	@$(BIN)/python -m pip install --disable-pip-version-check -e . $(quietly)
	@$(BIN)/python -m compileall -q rsp
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.created
	@echo 'installing gdb-rsp and what its tests need into $(VENV)'
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' $(quietly)
	@touch $(VENV)/.installed $@

# Debian's python3 comes without what makes a virtual environment.
$(VENV)/.created:
	@[ -n "$(PYTHON)" ] || { echo 'make: no Python of 3.11 or later; name one: make PYTHON=…' >&2; exit 1; }
	@mkdir -p $(VENV)
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    if [ "$$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then \
	        echo 'make: $(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)' >&2; \
	        exit 1; \
	    fi; \
	    echo 'installing python3-venv'; ( $(apt_install) python3-venv ) $(quietly); }
	@$(PYTHON) -m venv $(VENV) $(quietly)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find rsp tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
