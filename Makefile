# Two commands do all the set-up: `make demo` and `make test`. They need Python 3.11 or newer and nothing else, write below this
# directory and into the user's package cache, and install exactly what the committed locks name.
# `make tools` builds the real clients and registries that many tests use; without them those tests skip and say so.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV ?= .venv
PY := $(VENV)/bin/python
# Another Python than the first one that is new enough: `make PYTHON=… test`.
PYTHON ?=
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
PYTEST_FLAGS ?= -n auto --maxprocesses=8 --dist worksteal
# Everything that a run leaves behind stays below this directory.
RUN := TMPDIR="$(CURDIR)/.tmp" PYTHONDONTWRITEBYTECODE=

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.runtime ## Go the whole way on an embedded look-alike of MAR; needs no network once set up.
	@mkdir -p .tmp && $(RUN) $(PY) -m marfetch demo

test: $(VENV)/.dev ## Run all tests; real tools are used where `make tools` has built them.
	@mkdir -p .tmp && $(RUN) $(PY) -m pytest $(PYTEST_FLAGS)

test-fast: PYTEST_FLAGS := -n 6 --dist worksteal # most of these tests wait, so two cores are busy only with more workers
test-fast: $(VENV)/.dev ## Run the tests that need no real tool, no installation and little time; 80 seconds on two cores.
	@mkdir -p .tmp && $(RUN) $(PY) -m pytest $(PYTEST_FLAGS) -m "not (network or slow or tool or install)" \
		--ignore=tests/crash --ignore=tests/faults --ignore=tests/fuzz

# The corpus stays in .cache/fuzz from run to run.
SECONDS ?= 3600
fuzz: $(VENV)/.dev ## Fuzz all that reads foreign bytes, for an hour or for SECONDS=N in all (TARGETS="tar lock", SEED=N).
	@mkdir -p .tmp && $(RUN) $(PY) -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(TARGETS)

test-all: ## Run all tests on every supported Python that is here.
	@mkdir -p .tmp; ran=; for p in $(PYTHONS); do \
		if $$p -c 'import sys' 2>/dev/null; then \
			echo "== $$p"; $(MAKE) --no-print-directory VENV=.venv-$$p PYTHON="$$(command -v $$p)" test || exit 1; ran="$$ran $$p"; \
		else echo "== $$p is not here: not run"; fi; done; echo "== passed on:$$ran"

test-typer: ## Run the command line's tests with the lowest and the newest allowed typer; fail if a newer one loads no pydantic.
	@mkdir -p .tmp; for version in 'typer==0.24.0' 'typer<0.29' 'typer'; do \
		rm -rf .venv-typer; $(MAKE) --no-print-directory VENV=.venv-typer .venv-typer/.dev || exit 1; \
		echo "$$version" > .tmp/typer.txt; $(environment) .venv-typer --upgrade .tmp/typer.txt || exit 1; \
		echo "== $$version"; \
		if [ "$$version" = typer ]; then \
			.venv-typer/bin/python -c 'import sys; from marfetch.__main__ import main; main(["version"]); sys.exit("pydantic" not in sys.modules)' || { \
				echo "typer $$(.venv-typer/bin/python -c 'import typer; print(typer.__version__)') does not load pydantic:" \
				"raise the bound in pyproject.toml (docs/decisions/0009-typer.md)" >&2; exit 1; }; \
		else $(RUN) .venv-typer/bin/python -m pytest -q tests/cli/test_commands.py || exit 1; fi; done

# The tools of the tests are those of the lock; a test of what newer releases added has no place here.
test-lowest: ## Run many tests with the lowest version of each dependency that pyproject.toml allows.
	@mkdir -p .tmp; rm -rf .venv-lowest; echo uv > .tmp/uv.txt; $(environment) .venv-lowest --upgrade .tmp/uv.txt "$(PYTHON)" && \
	uv=.venv-lowest/bin/uv && $$uv pip compile -q --resolution lowest-direct --python .venv-lowest/bin/python \
		--extra all pyproject.toml -o .tmp/lowest.txt && \
	grep -oE '^(asn1crypto|cbor2|filelock|hatchling|hypothesis|pytest|pytest-timeout|pytest-xdist|trustme)==[^ ;]+' requirements/dev.lock > .tmp/tools.txt && \
	$$uv pip install -q --python .venv-lowest/bin/python -r .tmp/lowest.txt -r .tmp/tools.txt && \
	$(RUN) PYTHONPATH="$(CURDIR)" .venv-lowest/bin/python -m pytest -n 2 -q -m "not (network or slow or tool or install)" \
		$(addprefix tests/,agents cli client destination helm layout library project remote render serve)

lint: $(VENV)/.dev ## Check style and format.
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(VENV)/.dev ## Check types, strictly.
	@$(PY) -m mypy && $(PY) -m mypy docs/generate.py docs/pictures.py docs/site/hooks.py ci/release.py ci/smoke.py docs/examples/*.py

docs: $(VENV)/.dev ## Write the parts of the documentation that are made from the code.
	@mkdir -p .tmp && $(RUN) $(PY) docs/generate.py

pictures: $(VENV)/.dev ## Take the pictures of the web pages in docs/ (needs Chromium).
	@mkdir -p .tmp && $(RUN) PYTHONPATH=. $(PY) docs/pictures.py

docs-check: $(VENV)/.dev ## Check that they are up to date.
	@mkdir -p .tmp && $(RUN) $(PY) docs/generate.py --check

# Without --quiet, which hides the warnings from --strict too.
site: .venv-site/.made ## Build the documentation as a site into build/site, and check its links.
	@$(RUN) NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict -f docs/site/mkdocs.yml && echo "build/site/index.html"

architecture: $(VENV)/.dev ## Print the map of the package: rows, units, doors, imports.
	@$(PY) -m tests.world.architecture

tools: $(VENV)/.dev ## Get the real tools that tests use into .tools/ (needs Go, and Node.js for two of them).
	@mkdir -p .tmp && $(RUN) $(PY) tests/world/tools.py

audit: .venv-audit/.made ## Ask the index for known holes of what requirements/runtime.lock names; fails too where nobody answers.
	@mkdir -p .tmp && $(RUN) .venv-audit/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements/runtime.lock || { \
		echo "make audit: a hole is known, or some packages could not be looked up (the index gives no advisories here)" >&2; exit 1; }

sbom: .venv-audit/.made ## Write a bill of materials (CycloneDX) of what requirements/runtime.lock names to dist/marfetch.cdx.json.
	@mkdir -p dist && PYTHONWARNINGS=ignore::UserWarning .venv-audit/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON \
		-o dist/marfetch.cdx.json requirements/runtime.lock

# With TAG=v1.2.3 the version must be that one. With KEY=NAME, GnuPG signs the archive of the plugin with that key; without it,
# `.unsigned` is the text to sign.
release: $(VENV)/.dev sbom ## Build what a release consists of into dist/: packages, the plugin for Helm 4 (KEY=NAME signs it), SBOM, checksums.
	@version=$$($(PY) -c 'import marfetch; print(marfetch.__version__)'); \
	if [ -n "$(TAG)" ] && [ "$(TAG)" != "v$$version" ]; then echo "the tag $(TAG) is not v$$version" >&2; exit 1; fi; \
	rm -f dist/*.whl dist/*.gz dist/*.tgz* dist/SHA256SUMS; SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); export SOURCE_DATE_EPOCH; \
	$(PY) -m hatchling build -d dist && $(PY) ci/release.py dist $(if $(KEY),--key "$(KEY)")

live: $(VENV)/.dev ## Ask the real MAR ten things, and write a redacted transcript; never in CI.
	@mkdir -p .tmp && $(RUN) $(PY) -m pytest -m network tests/live $(PYTEST_FLAGS)

crash: $(VENV)/.dev ## Kill and fail every system call of each command, with real tools; half an hour, counts at the end.
	@mkdir -p .tmp && $(RUN) MARFETCH_SWEEP=1 $(PY) -m pytest tests/crash $(PYTEST_FLAGS)

bench: $(VENV)/.bench ## Measure beside other clients, near and 40 ms away, and write docs/performance.md.
	@mkdir -p .tmp && $(RUN) $(PY) -m benchmarks

bench-check: $(VENV)/.dev ## Check that no stored ratio of speed became worse by a third.
	@mkdir -p .tmp && $(RUN) $(PY) -m benchmarks.check

soak: $(VENV)/.dev ## Go on for long: artifacts, a link that resets, serving beside a registry; most of an hour.
	@mkdir -p .tmp && $(RUN) $(PY) -m benchmarks.throttle && $(RUN) $(PY) -m benchmarks.soak

lock: ## Resolve the locks anew (needs uv).
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" pyproject.toml -o requirements/runtime.lock
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --constraint requirements/runtime.lock --group dev pyproject.toml -o requirements/dev.lock
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --constraint requirements/dev.lock --group bench pyproject.toml -o requirements/bench.lock
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" requirements/audit.in -o requirements/audit.lock
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --group pyproject.toml:site -o requirements/site.lock

clean: ## Remove what the other commands have made, the tools aside.
	@rm -rf .venv .venv-* .tmp .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

# The same script makes the environment of the Helm plugin.
environment := sh marfetch/helm/environment

$(VENV)/.runtime: requirements/runtime.lock pyproject.toml
	@echo "making $(VENV) with what requirements/runtime.lock names"; \
	$(environment) $(VENV) requirements/runtime.lock "$(PYTHON)" && \
	echo "$(CURDIR)" > "$$($(PY) -c 'import site; print(site.getsitepackages()[0])')/marfetch-checkout.pth" && \
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -P -m marfetch "$$@"\n' > $(VENV)/bin/marfetch && chmod +x $(VENV)/bin/marfetch && touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@echo "adding what requirements/dev.lock names"; $(environment) $(VENV) requirements/dev.lock && touch $@

$(VENV)/.bench: requirements/bench.lock $(VENV)/.dev
	@echo "adding what requirements/bench.lock names"; $(environment) $(VENV) requirements/bench.lock && touch $@

.venv-audit/.made: requirements/audit.lock
	@echo "making .venv-audit with what requirements/audit.lock names"; $(environment) .venv-audit requirements/audit.lock "$(PYTHON)" && touch $@

.venv-site/.made: requirements/site.lock
	@echo "making .venv-site with what requirements/site.lock names"; $(environment) .venv-site requirements/site.lock "$(PYTHON)" && touch $@

.PHONY: help demo pictures test test-fast fuzz test-all test-typer test-lowest lint types docs docs-check site architecture tools audit sbom release live crash bench bench-check soak lock clean
