.PHONY: check format lint types test test-all

check: lint types test  ## what CI runs

format:
	uv run ruff format .
	uv run ruff check --fix .

lint:
	uv run ruff format --check .
	uv run ruff check .

types:
	uv run mypy

test:
	uv run pytest

test-all:
	uv run pytest -m "slow or not slow"
