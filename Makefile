# `make` says what there is. Needs Python 3.11 or later; everything else goes into $(VENV).
PYTHON ?= python3
CONFIG ?= configs/miniature.yaml
VENV ?= .venv
UV ?= uv

BIN := $(VENV)/bin
WORDNET := models/wordnet/usr/share/wordnet
# Written last, so that an installation that was killed is not taken for a finished one.
INSTALLED := $(VENV)/.installed
INSTALLING := $(VENV)/.installing

# Files of tests are divided between two processes; those that share a costly input stay together (tests/conftest.py).
SIDE_BY_SIDE := --numprocesses 2

# JOBS: how many subjects run side by side (default: as many as there are, and as cores allow).
RUN = $(BIN)/python -m minddiffuser.demo --config "$(CONFIG)" $(if $(JOBS),--jobs $(JOBS))

# What search, stage1, demo, compare, god, all, film and film-all run is listed in minddiffuser/stages.csv. Not part of any are
# data/00_get_models.py (`make models`) and data/00_get_nsd.py (`make nsd`). Without experiment.miniature in CONFIG there is nothing for miniature/01_make_miniature.py to do,
# without experiment.semantic_brain_decoding nothing for its scripts.

.DEFAULT_GOAL := help
.PHONY: help install search stage1 demo compare god all film film-all models nsd wordnet test test-all lint lock clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  settings: PYTHON=$(PYTHON)  VENV=$(VENV)  CONFIG=$(CONFIG)"

install: $(INSTALLED) ## make the environment (about 6 GB on Linux, with CUDA)

# The marker says that pip is at work on an environment that was made here; left behind, it means that pip was cut
# short, and the environment is made anew. An environment that someone else made is never deleted.
$(INSTALLED): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Python 3.11 or later is needed, and PYTHON=$(PYTHON) is" \
			"$$("$(PYTHON)" --version 2>&1 | head -n 1); try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@if [ -e $(INSTALLING) ]; then \
		echo "an earlier installation was cut short: starting afresh"; \
		"$(PYTHON)" -m venv --clear $(VENV) && touch $(INSTALLING); \
	elif ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		"$(PYTHON)" -m venv $(VENV) && touch $(INSTALLING); \
	elif [ -e $@ ]; then touch $(INSTALLING); fi
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	@rm -f $(INSTALLING)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(INSTALLED) ## reconstruct images from fMRI by both stages, beside four controls (simulated by default)
	@$(RUN) demo

search: $(INSTALLED) ## choose the decoders' penalty and numbers of voxels by cross-validation on training images (three hours for NSD)
	@$(RUN) search

stage1: $(INSTALLED) ## the demo as far as stage 1, with first scores and a page: to look at before stage 2, which takes long
	@$(RUN) stage1

compare: $(INSTALLED) ## the same, with rivals, ablations, all controls, and where and how well each target is decoded
	@$(RUN) compare

god: $(INSTALLED) ## Semantic Brain Decoding, on Generic Object Decoding
	@$(RUN) god

all: $(INSTALLED) ## demo, compare and god in one (what is done is not done again)
	@$(RUN) all

film: $(INSTALLED) ## Mind-Animator, on CC2017: from recordings to films that are decoded, scored and shown, beside five controls
	@$(RUN) film

film-all: $(INSTALLED) ## the same, with films of all forms, all controls, and maps of the cortex
	@$(RUN) film-all

models: $(INSTALLED) ## download the models that CONFIG names, once (the miniature's are in the repository)
	@$(BIN)/python data/00_get_models.py --config $(CONFIG)

nsd: $(INSTALLED) ## fetch what CONFIG needs of the Natural Scenes Dataset and of COCO, whose terms you are asked to accept
	@$(BIN)/python data/00_get_nsd.py --config $(CONFIG)

wordnet: $(WORDNET)/data.noun ## get WordNet 3.0 from Debian's archive, without root (with root: apt-get install wordnet-base)
	@echo "WordNet is in $(WORDNET)"

# Unpacked beside its place, which it then takes whole. What somebody else put there stays.
$(WORDNET)/data.noun:
	@if [ -d models/wordnet ] && ! rmdir models/wordnet 2>/dev/null || [ -e models/wordnet ]; then \
		echo "error: models/wordnet is there, but has no $(WORDNET:models/wordnet/%=%)/data.noun; move it away, or name the" \
			"folder that has data.noun in execution.wordnet" >&2; exit 1; fi
	@rm -rf models/wordnet.partial && mkdir -p models/wordnet.partial
	cd models/wordnet.partial && { apt-get download wordnet-base || { apt-get update && apt-get download wordnet-base; }; }
	cd models/wordnet.partial && dpkg-deb -x wordnet-base_*.deb . && rm wordnet-base_*.deb
	@mv models/wordnet.partial models/wordnet

test: $(INSTALLED) ## run the tests, in two processes
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-all: $(INSTALLED) ## run the tests, with those that take minutes
	@$(BIN)/python -m pytest -m "" $(SIDE_BY_SIDE)

lint: $(INSTALLED) ## style, types, who may import whom, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if command -v node >/dev/null; then echo $(BIN)/pyright; $(BIN)/pyright; \
	else echo "pyright is left out: it needs node, which is not on PATH"; fi
	$(BIN)/lint-imports
	$(BIN)/codespell

lock: ## write requirements.lock from pyproject.toml (needs uv; UPGRADE=--upgrade for newer versions)
	$(UV) pip compile --universal --python-version 3.11 --group dev pyproject.toml -o requirements.lock $(UPGRADE)

clean: ## delete CONFIG's results; asks for its name if they are of real data (or CONFIRM=its name)
	@[ -x $(BIN)/python ] || { echo "error: there is no $(BIN)/python: make install, or delete the results by hand" >&2; exit 1; }
	@$(BIN)/python -m minddiffuser.clean --config "$(CONFIG)" --confirm "$(CONFIRM)"
