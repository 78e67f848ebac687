# make help explains the targets. Everything happens in .venv; Python 3.11 or later and pip are all it takes.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JAVASCRIPT := tests/hub/javascript
DEMO := demo/resim-jets
DEMO_EVENTS := 100

.DEFAULT_GOAL := help
.PHONY: help venv demo figure test lint format clean

help: ## say what the targets do
	@awk -F ': [^#]*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## install hepfm and the tools to develop it into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"hepfm needs Python 3.11 or later; $(PYTHON) is {sys.version.split()[0]}. Try: make PYTHON=python3.12")'
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## simulate a small campaign of eight views, draw a jet in all of them, write a report (about a minute)
	@rm -rf demo
	$(BIN)/hepfm-data resim $(DEMO) --n-events $(DEMO_EVENTS) --variations 8
	$(BIN)/hepfm-data info $(DEMO)
	$(BIN)/hepfm-data check $(DEMO)
	$(BIN)/python examples/eight_views.py $(DEMO) demo/eight-views.png
	$(BIN)/hepfm-data report $(DEMO) --out demo/report.html
	@echo "the same jet in eight views: $(CURDIR)/demo/eight-views.png"
	@echo "all there is to see, in a browser: $(CURDIR)/demo/report.html"

figure: demo ## the demo, and its figure into the README
	cp demo/eight-views.png docs/figures/eight-views.png

$(JAVASCRIPT)/node_modules: $(JAVASCRIPT)/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix $(JAVASCRIPT) --no-audit --no-fund --silent && touch $@; \
	  else echo "npm is not installed: the tests with the Hub's JavaScript client are skipped"; fi

test: $(STAMP) $(JAVASCRIPT)/node_modules ## run the tests (some minutes)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP) ## ruff and mypy
	@status=0; for tool in "ruff check ." "ruff format --check ." mypy; do \
	  echo "$$tool"; $(BIN)/$$tool || status=1; \
	done; exit $$status

format: $(STAMP) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, the demo and all caches
	rm -rf $(VENV) $(JAVASCRIPT)/node_modules demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
