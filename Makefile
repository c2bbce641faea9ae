# make demo    fine-tune a tiny Chinese MRC model on the bundled corpus and print the leaderboard
# make test    run the tests
# make check   lint, types and tests
# make bench   run every benchmark (each prints one JSON line)
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: setup demo test check bench clean
setup: $(STAMP)

# torch comes first and by itself, so that no other package can choose another build of it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tensorflow]'
	touch $(STAMP)

demo: setup
	$(BIN)/python examples/demo.py

# One thread for each of the two workers: four on two cores would wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

bench: setup
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
