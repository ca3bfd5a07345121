# The two commands of the README are `make demo` and `make test`; each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNBOOK := $(BIN)/runbook

.PHONY: demo test campaign check bench clean

demo: $(VENV)/.sandbox
	@$(RUNBOOK) apply regular.yml -i sandbox --yes
	@echo "Try next: $(RUNBOOK) apply regular.yml -i sandbox -e run_id=1 -e replaced_run=0 --check"

test: $(VENV)/.test
	@.ci/apt
	@.ci/postgres
	$(BIN)/pytest -m "not campaign"

# What takes minutes: crash, contest and sequence campaigns, other versions of what we stand on.
campaign: $(VENV)/.test
	@.ci/apt ceph-common ceph-mon ceph-osd podman radosgw runc
	@.ci/postgres
	$(BIN)/pytest -m campaign

check: $(VENV)/.dev
	.ci/check

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

# One environment; each extra is a stamp in it, renewed when the project's needs change.
$(VENV)/.sandbox $(VENV)/.test $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt .ci/venv
	.ci/venv $(PYTHON) $(VENV) $*
	@touch $@

clean:
	rm -rf $(VENV) .build .pytest_cache .mypy_cache .ruff_cache
