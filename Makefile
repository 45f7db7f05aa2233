# `make demo` and `make test` do all set-up themselves: a fresh Debian with python3 ≥ 3.11 is enough.

VENV   := .venv
PY     := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
KILLS  := 200
MINUTES := 30
# most tests wait for something rather than compute, so there may be more workers than processors
WORKERS := 3
TORCH  := torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0

.PHONY: demo test lint types check audit bench fuzz soak clean
.DEFAULT_GOAL := demo

demo: $(STAMPS)/run ## see it work on shipped data: people are boxed, counted and turned into events; with a page to look at
	$(VENV)/bin/thresher demo

test: $(STAMPS)/dev ## everything that must hold: system packages, style, types, imports, tests (a skip is a failure)
	sh tests/system-packages.sh
	$(MAKE) --no-print-directory check
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile --durations=25 -m "not slow"
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile --durations=25 -m slow

check: lint types
	$(PY) .ci/audit.py

audit: $(STAMPS)/dev ## what is installed: does it fit, may it be used, and (with the network) is a weakness of it known
	$(PY) .ci/audit.py --known

lint: $(STAMPS)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(STAMPS)/dev
	$(VENV)/bin/mypy

soak: $(STAMPS)/dev ## the full form: KILLS kills while results flow, MINUTES of faults at full load, 100,000 inputs a parser
	sh tests/system-packages.sh
	$(PY) -m tests.durability --kills $(KILLS)
	$(PY) -m tests.durability.soak --minutes $(MINUTES)
	$(MAKE) --no-print-directory fuzz

fuzz: $(STAMPS)/dev ## the full form: 100,000 inputs a parser, 10,000 mutated films and sounds; what is found is kept
	$(PY) -m tests.fuzz

bench: $(STAMPS)/dev ## the figures this project lives by, each beside its baseline
	$(VENV)/bin/thresher bench all

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is made when its step went well, so that the second call costs nothing.

$(STAMPS)/venv:
	@sh .ci/make-venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv pyproject.toml
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[web]'
	@touch $@

# nudenet is there for its ONNX file; what it depends on would bring a second OpenCV.
$(STAMPS)/dev: $(STAMPS)/venv pyproject.toml
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(TORCH)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps nudenet==3.4.2
	@touch $@ $(STAMPS)/run
