PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint docs

demo: .venv/installed  ## Search a cell on handwritten digits, and write its page; a few minutes on two cores.
	$(BIN)/darts search cnn --dataset digits --epochs 12 --layers 3 --channels 8 --alpha-lr 0.1 --run runs/demo
	$(BIN)/darts visualize runs/demo --html runs/demo/page.html

test: .venv/tested  ## A process more than cores, as some tests wait; one thread each, as threads of several would wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

lint: .venv/tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check

docs: .venv/tested  ## Regenerate docs/cli.md, then build the site into site/.
	$(BIN)/python tests/test_docs.py
	$(BIN)/python -m mkdocs build --strict --quiet

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
