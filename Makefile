.DEFAULT_GOAL := help
.PHONY: help setup lint types contracts test bench wheel clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install the package and its tools into .venv
	uv sync

lint: ## check style and layout of the code
	uv run ruff check
	uv run ruff format --check

types: ## check types
	uv run pyright

contracts: ## check that imports run one way
	uv run lint-imports

test: ## run the tests
	uv run pytest

bench: ## measure speed and quality against hand-written code
	uv run python -m benchmarks.step

wheel: ## build the package into dist/
	uv build --wheel

clean: ## remove what was built and cached
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
