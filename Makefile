# Each target makes its own environment in .venv, and makes it again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TREE := build/tree

.PHONY: demo test lint test-long conformance bench schema clean

demo: $(INSTALLED)
	$(BIN)/secmem demo

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not long"

test-long: $(INSTALLED)
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -n 2 --dist loadgroup

# mypy knows nothing of setuptools' package-dir: it is shown a tree of links in which the package is as in the wheel.
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TREE)
	mkdir -p $(TREE)/secure_memory
	ln -s "$(CURDIR)"/secure_memory/* "$(CURDIR)/cli" "$(CURDIR)/examples" "$(CURDIR)/policies" $(TREE)/secure_memory/
	cd $(TREE) && "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" \
		--cache-dir "$(CURDIR)/.mypy_cache" -p secure_memory

# The SDK's own suites and agmi, on SecureSession: writes docs/conformance.md. Needs the package index.
conformance: $(INSTALLED)
	$(BIN)/python tests/conformance/run.py

# Writes benchmarks/results.md, each its own part. The second one builds a store of a million items: about five minutes.
# The third writes benchmarks/redaction.md, and needs the package index.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/purge.py
	$(BIN)/python benchmarks/redaction.py

# The JSON Schema of policy files, from the models, and the canonical baseline. Tests fail where they are not current.
schema: $(INSTALLED)
	$(BIN)/python -c "from secure_memory.policy.schema import text; print(text(), end='')" > policies/schema.json
	$(BIN)/python -c "from secure_memory.policy.load import load; print(load('baseline').policy.canonical().decode())" \
		> policies/baseline.json

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
