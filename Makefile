# make demo   see it work          make test   check everything          make help   the rest
#
# Each target sets up what it needs, on a machine that has only Python 3.11 or later, git and make:
# the virtual environment in .venv and, as root on Debian 12, the packages of the live tests.
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
.PHONY: help demo test test-quick lint newest bench soak lab bare clean

help:
	@echo 'make demo    follow a CPU from 16 to 64 bit: on QEMU, or from a recording without it'
	@echo 'make test    the linters and all tests (live tests: those whose programs are there)'
	@echo 'make test-quick  the linters and the tests that are not live: no root, no downloads'
	@echo 'make newest  the live tests on the newest QEMU, gdb, gdbserver and valgrind that Debian has'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   the benchmarks, as ratios within one run'
	@echo 'make soak    the live tests five times beside four busy loops (hours)'
	@echo 'make lab     what the live tests need: Debian packages (as root), kernels (some minutes, once)'
	@echo 'make bare    the two first ones on systems that have nothing (as root, before a release)'
	@echo 'make clean   remove what these made in this directory'

demo: $(VENV)/.installed
	@$(BIN)/rsp demo

test: lab lint
	@$(BIN)/python -bb -W error -m pytest $(ARGS)

test-quick: lint
	@$(BIN)/python -bb -W error -m pytest -m 'not live' $(ARGS)
	@echo 'left out: the live tests, those on QEMU, gdbserver, valgrind and kernels; make test runs them'

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# ARGS='tests/live -k gdbserver', for example. The programs are downloaded once, without root, into
# the user's cache directory (818 MB), and the machine's own stay as they are.
newest: lab
	@RSP_LAB_BIN=$$($(BIN)/python tests/lab/newest.py) && [ -n "$$RSP_LAB_BIN" ] && \
	    export RSP_LAB_BIN && $(BIN)/python -bb -W error -m pytest -m live $(ARGS)

# drgn is a peer to be measured against, and nothing else here needs it.
bench: lab
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[bench]' $(quietly)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

# ARGS='--runs 1 --loops 2 -- -k kgdb', for example.
soak: lab
	@PYTHONPATH=tests $(BIN)/python -m lab.soak $(ARGS)

# A failure to install is a message, and the tests that need it say so again. The kernels are
# downloaded and built once, in some minutes, and kept in the user's cache directory. The live tests
# know the answers of Debian 12's programs, so those of another release are not installed.
lab: $(VENV)/.installed-dev
	@missing=$$($(BIN)/python tests/lab/packages.py); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && grep -qs VERSION_CODENAME=bookworm /etc/os-release; then \
	    echo "installing for the live tests: $$missing"; \
	    ( $(apt_install) $$missing ) >$(LOG) 2>&1 && missing= || tail -n 25 $(LOG) >&2; \
	fi; \
	if [ -z "$$missing" ]; then \
	    $(BIN)/python tests/lab/obtain.py || [ "$$RSP_LAB" != required ]; \
	else \
	    echo 'live tests that need programs of Debian 12 are skipped; to install them there (as root):' >&2; \
	    echo "apt-get install $$missing" >&2; \
	    [ "$$RSP_LAB" != required ]; \
	fi

# Builds its systems once, in a cache of its own, and needs debootstrap.
bare: $(VENV)/.installed-dev
	@command -v debootstrap >/dev/null || ( $(apt_install) debootstrap ) $(quietly)
	@$(BIN)/python tests/lab/bare.py $(ARGS)

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo 'installing gdb-rsp into $(VENV)'
	@$(BIN)/python -m pip install --disable-pip-version-check -e . $(quietly)
	@$(BIN)/python -m compileall -q rsp
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.created
	@echo 'installing gdb-rsp and what its tests need into $(VENV)'
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' $(quietly)
	@touch $(VENV)/.installed $@

# Debian's python3 comes without pip, and a virtual environment is made with Debian's; the
# environment then has one of its own. Nothing is installed on the machine.
$(VENV)/.created:
	@[ -n "$(PYTHON)" ] || { echo 'make: no Python of 3.11 or later; name one: make PYTHON=…' >&2; exit 1; }
	@rm -rf $(VENV) && mkdir $(VENV)
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	    $(PYTHON) -m venv $(VENV); \
	elif [ -e /etc/debian_version ]; then \
	    $(PYTHON) tests/lab/apt.py python3-pip-whl $(VENV)/debian && \
	    $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(BIN)/python "$$(echo $(VENV)/debian/usr/share/python-wheels/pip-*.whl)/pip" install pip; \
	else \
	    echo '$(PYTHON) cannot make virtual environments: it has no ensurepip'; false; \
	fi $(quietly)
	@rm -rf $(VENV)/debian
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find rsp tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
