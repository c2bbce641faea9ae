# make demo    fine-tune a tiny Chinese MRC model on the bundled corpus and print the leaderboard
# make test    run the tests
# make check   lint, types and tests
# make soak    the longer tests, thousands of damaged files, and runs that are killed (with MRC_DATA_DIR, on real data)
# make docs    build the documentation as a site, in build/site
# make bench   run every benchmark (each prints one JSON line) but pretrained.py, which takes hours and needs weights
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

# Each worker takes neighbours, which share fixtures, and takes over from the other at the end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo test check soak bench docs clean
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
	$(PYTEST)

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

soak: setup
	$(PYTEST) -m soak
	PYTHONPATH=. $(BIN)/python tests/preprocess/test_reader_fuzz.py 20000
	if [ -n "$$MRC_DATA_DIR" ]; then for framework in pytorch tensorflow; do \
		$(BIN)/python benchmarks/kill.py --framework $$framework || exit 1; done; fi

bench: setup
	for file in $(filter-out %/pretrained.py,$(wildcard benchmarks/[a-z]*.py)); do $(BIN)/python $$file || exit 1; done

# By -m, so that the reference is of this checkout, whatever is installed.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
