# make          what there is
# make lab      set up (once), then open the course in JupyterLab
# make test     set up (once), then check everything
# make classroom  write student/ and instructor/
PYTHON ?= python3
VENV ?= .venv
LAB_ARGS ?=
CLASSROOM_ARGS ?=
TEST_ARGS ?=
OLDEST_ARGS ?=
VOILA_ARGS ?=
# Tests run in two processes of one thread each, a file or a notebook in one of them.
WORKERS ?= 2
# A further index for torch; on Linux without a GPU, PyTorch's index of CPU builds (its address: pytorch.org) saves 2 GB:
#   make lab TORCH_INDEX=<address>
TORCH_INDEX ?=

PY := $(VENV)/bin/python
READY := $(VENV)/.ready
GRADING := $(VENV)/.grading

.DEFAULT_GOAL := help
.PHONY: help setup workspace lab dashboard test oldest lint notebooks links classroom

help:
	@echo "make lab         set up, then open the course in JupyterLab (your copy is in workspace/, never overwritten)"
	@echo "make dashboard   the comparison of methods (lesson 13) as a page of its own, under Voila"
	@echo "make test        set up, then check everything: lint, library, notebooks"
	@echo "make classroom   write student/ and instructor/: copies without solutions, nbgrader's sources, guide, slides;  CLASSROOM_ARGS=--set-aside"
	@echo "make oldest      run lessons and tests under Google Colab's packages (an hour);  OLDEST_ARGS='--floors --lessons 00 05'"
	@echo "make lint        Ruff over code and notebooks;  make lint FIX=1  mends what it can"
	@echo "make notebooks   run the lessons and store their outputs;  NAMES='01 05'  for some of them"
	@echo "make links       write pyproject's repository address into badges, install lines and the README's map"
	@echo "variables        LAB_ARGS='--no-browser --port 8899'   TEST_ARGS='-x -k losses'   WORKERS=4   PYTHON=python3.12   TORCH_INDEX=<url>"

# The stamp is younger than what it was made from: a second call starts at once.
# torch comes first and alone, so that TORCH_INDEX chooses its build; what is already there in the pinned version stays.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This course needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install one from python.org or your system, then name it, for example:  make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python could not make a virtual environment. On Debian and Ubuntu:  sudo apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV): once, a few minutes, mostly downloads."
	$(PY) -m pip install --quiet torch -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(PY) -m pip install --quiet -e ".[lab,test]" -c constraints.txt
	@# JupyterLab's question about news would cover the first page of the course.
	-@$(PY) -m jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1
	@touch $@

# nbgrader comes on top, for teachers and for the tests: it changes no other package, and `make lab` needs none of it.
$(GRADING): $(READY)
	$(PY) -m pip install --quiet -e ".[instructor]" -c constraints.txt
	@touch $@

setup: $(READY)

workspace: $(READY)
	@$(PY) -m peft_helpers.editions workspace

lab: workspace
	$(PY) -m jupyter lab workspace/00_start_here.ipynb $(LAB_ARGS)

dashboard: $(READY)
	$(PY) -m voila "$$($(PY) -c 'import peft_helpers.widgets.dashboard as page; print(page.NOTEBOOK)')" $(VOILA_ARGS)

lint: $(READY)
ifdef FIX
	@$(PY) -m ruff check --fix --exit-zero --quiet . && $(PY) -m ruff format .
endif
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

test: lint $(GRADING)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n $(WORKERS) --dist loadfile $(TEST_ARGS)

# An environment of its own, kept in .oldest/; it needs the network, as Colab's setup cell does.
oldest:
	@$(if $(TORCH_INDEX),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX)) $(PYTHON) tests/oldest_environment.py $(OLDEST_ARGS)

notebooks: $(READY)
	@$(PY) -m peft_helpers.editions refresh $(NAMES)

links: $(READY)
	@$(PY) -m peft_helpers.editions links

classroom: $(GRADING)
	@$(PY) -m peft_helpers.classroom $(CLASSROOM_ARGS)
