.PHONY: check format lint types test test-all test-study test-clients docs docs-current fuzz

check: lint types test docs-current  ## what CI runs

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
	uv run pytest -m "slow or not slow and not study"

STUDY_ENV ?= .cache/study-env
STUDY_WITH ?=

test-study:  ## the study's tests, in an environment that has torch; STUDY_WITH=torch==VERSION picks one
	uv venv --quiet --allow-existing $(STUDY_ENV)
	uv pip install --quiet --python $(STUDY_ENV) -r study/pyproject.toml accelerate pytest $(STUDY_WITH)
	$(STUDY_ENV)/bin/pytest -o addopts= -o pythonpath="study tests/study" --import-mode=importlib -q \
		--confcutdir tests/study tests/study

test-clients:  ## every official client; makes environments for them on first use
	uv run pytest -m clients -n 2

docs:  ## write the generated pages
	uv run python -m labgate.criteria > docs/criteria.md
	uv run python -m labgate.report.json > docs/report.schema.json
	uv run python -m labgate.standins.hub.catalogue > docs/catalogue.md

docs-current:
	uv run python -m labgate.criteria | diff -u docs/criteria.md -
	uv run python -m labgate.standins.hub.catalogue | diff -u docs/catalogue.md -

fuzz:  ## 10,000 mangled bundles, and as many mangled requests
	LABGATE_FUZZ=10000 uv run pytest tests/test_mangled_bundles.py tests/flow/test_config_model.py
	LABGATE_FUZZ=10000 uv run pytest tests/standins/test_wandb_mangled.py tests/standins/hub/test_hub_fuzz.py
