# Each target does its own set-up: a virtual environment in .venv with everything that the project needs.

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

# Real chest X-rays for `test-real` and `demo-patients`; see docs/data.md.
LDP_DATA ?= $(wildcard $(CURDIR)/../shared/data)
export LDP_DATA
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

NEEDS_DATA = @test -d "$(LDP_DATA)" || { echo "Real chest X-rays are needed: LDP_DATA must name a folder that holds \
them, and names '$(LDP_DATA)'; docs/data.md says which files, and where they come from"; exit 2; }

.PHONY: demo demo-patients test test-postgres test-durability test-real faults faults-quick lint check bench utility attacks format clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## three hospitals and one centre on this machine, on real X-rays where there are some
	$(BIN)/python -m examples.demo --data auto

demo-patients: $(READY)  ## the same, shorter, with patients as the unit (needs LDP_DATA)
	$(BIN)/python -m examples.demo --patients

test: $(READY)  ## all tests that need no real X-rays
	$(BIN)/python -m pytest -m "not real and not postgres and not strace"

test-postgres: $(READY)  ## the centre's tests on PostgreSQL; fails where its programs are not installed
	$(BIN)/python -m pytest -m postgres

test-durability: $(READY)  ## what is on the disk before it is answered, as the kernel sees it; needs strace
	$(BIN)/python -m pytest -m strace

test-real: $(READY)  ## tests on real chest X-rays; fails where LDP_DATA has none
	$(BIN)/python -m pytest -m real

faults: $(READY)  ## 200 kills and broken disks, clocks, networks, databases; needs root, for a small disk, and PostgreSQL
	$(BIN)/python -m examples.faults

faults-quick: $(READY)  ## the same with 20 kills
	$(BIN)/python -m examples.faults --quick

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint  ## format, lint, types, architecture, fast tests
	$(BIN)/python -m pytest -q -m "not real and not processes and not postgres and not strace"

bench: $(READY)  ## ratios against peers, written to build/bench
	$(BIN)/python -m examples.bench

utility: $(READY)  ## what each release is worth on real X-rays, beside its peers (needs LDP_DATA); goes on after a kill
	$(NEEDS_DATA)
	$(BIN)/ldp-server bench utility --data $(LDP_DATA)/pneumoniamnist.npz
	$(BIN)/ldp-server bench utility --data $(LDP_DATA)/cxr64.npz --out build/utility/cxr64
	$(BIN)/ldp-server bench utility --data $(LDP_DATA)/adult64.npz --public $(LDP_DATA)/cxr64.npz --out build/utility/adult64

attacks: $(READY)  ## what records give away, beside formal ceilings (needs LDP_DATA)
	$(NEEDS_DATA)
	$(BIN)/ldp-server bench attacks --data $(LDP_DATA)/cxr64.npz

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build .venv
