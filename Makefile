# Python 3.11 or newer and make are all that has to be there; every target sets up what it needs in $(V).
PY ?= $(shell for p in python3.11 python3 python; do \
        $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
V  ?= .venv
B   = $(V)/bin/python
# The versions that are installed: those of constraints.txt; none of them with `make C=`.
C  ?= -c constraints.txt
PIP = bin/python -m pip install -q --disable-pip-version-check
# Requirements as pyproject.toml has them, a line each: those of the package (base), of an extra, or all.
LIST = $(PY) -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; d = p["optional-dependencies"]; \
        d |= dict(base=p["dependencies"], all=[]); print(*(o for k in sys.argv[1:] or d for o in d[k]), sep="\n")'
# Tests never ask the Hub. Two notebooks or two tests run at a time, with one thread each.
RUN = HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 $(W:%=PYTHONWARNINGS=%)
# These open JupyterLab: one process, or they wait for each other.
LAB = tests/explorer
EXPORT = $(V)/bin/nbdev-export && $(B) tools/export_recipes.py

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)
.NOTPARALLEL:

demo: $(V)/.base  ## four scenes with and without the crop, and the stored result; a minute, once the environment is there
	$(V)/bin/carve demo --out demo_out --force
help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*  ## /\1: /p' Makefile
test: lint drift plain notebooks pytest  ## everything that must pass; the browser tests are skipped, and say so, where no Chromium is
lint: $(V)/.ok  ## lines, docstrings, and types of what is public
	$(V)/bin/ruff check -q && $(B) tools/check_types.py
drift: $(V)/.ok  ## notebooks are clean, modules what they export; compared with a copy, so it also works before a commit
	@rm -rf .drift && mkdir .drift && cp -r nbs carve_nb recipes .drift
	$(V)/bin/nbdev-clean
	$(EXPORT)
	@for d in nbs carve_nb recipes; do diff -rq --no-dereference -x __pycache__ .drift/$$d $$d || s=1; done; \
	 test -z "$$s" || { echo 'These are not what nbdev-clean and the export make (they are now): commit them.'; exit 1; }
plain: $(V)/.ok $(V)-plain/.ok  ## the wheel with its base requirements and nothing else, outside the clone
	CARVE_PLAIN=$(abspath $(V))-plain/bin/python $(RUN) $(B) -m pytest tests/test_install.py
notebooks: $(V)/.ok  ## every notebook runs
	$(RUN) $(B) tools/run_notebooks.py
pytest: $(V)/.ok  ## all tests; in a browser also the pages that `make docs` left; those of the explorer go on from each other on one page
	$(RUN) $(if $(wildcard _docs/html/index.html),CARVE_SITE=$(abspath _docs/html)) $(B) -m pytest -n 2 --dist worksteal $(LAB:%=--ignore %)
	$(RUN) $(B) -m pytest -n 0 $(LAB)
families: $(V)/.ok  ## the table of `carve families`, from what the tests measure on each; in one process
	$(RUN) $(B) -m pytest -n 0 tests/models/test_families.py tests/attention/test_stock.py tests/attention/test_turns.py \
	  --deselect tests/models/test_families.py::test_table_shipped --families-json=carve_nb/checkpoints/families.json
	$(RUN) $(B) -m recipes.all_families
rows: $(V)/.ok  ## the rows of `carve checkup` that people sent: digests, and figures where records lie beside them
	$(RUN) $(B) -c 'from glob import glob; from carve_nb.studies.checkup import check_row; \
	  [print(check_row(path)) for path in sorted(glob("nbs/results/models/*/row.json"))]'
test-lowest: $(V)-lowest/.ok  ## some of the tests with the oldest versions that pyproject.toml allows; nbdev needs a newer fastcore
	$(RUN) OMP_NUM_THREADS=2 $(V)-lowest/bin/python -m pytest tests/test_import.py tests/models/test_families.py tests/models/test_load.py \
	  tests/cli/test_cli.py tests/method/test_methods.py
test-newest:  ## all tests with the newest versions that are allowed; what they will drop is an error here
	$(MAKE) V=$(V)-newest C= W=error::FutureWarning test
test-torchvision: $(V)-vision/.ok  ## the stock processors with torchvision: spans, pixels, rows and videos of every family
	$(RUN) OMP_NUM_THREADS=2 $(V)-vision/bin/python -m pytest tests/models/test_torchvision.py
	$(RUN) OMP_NUM_THREADS=2 $(V)-vision/bin/python -m pytest tests/models/test_families.py tests/attention/test_stock.py tests/attention/test_turns.py \
	  -k "$$($(B) -c 'from recipes.tiny_models import NEED_TIMM, NEED_TORCHVISION; print(*sorted(NEED_TIMM | NEED_TORCHVISION), sep=" or ")')"
# Colab has Python 3.12; its versions are taken anew each time, since the first cell of a notebook installs over them.
colab: $(V)/.ok  ## the first cell of the tutorials, and the rest of two, with Colab's versions and a wheel built here; 6 GB
	test -x $(V)-colab/bin/pip || $$(command -v python3.12 || echo $(PY)) -m venv $(V)-colab
	$(V)-colab/$(PIP) -r tests/colab.txt
	CARVE_COLAB=$(abspath $(V))-colab/bin/python $(RUN) $(B) -m pytest -n 0 -rP tests/test_install.py -k colab
soak: $(V)/.ok  ## the long variants: 10,000 cases of each law, fuzzing, 20 kills, 1,000 questions; half an hour
	$(V)/$(PIP) $(C) -e '.[fuzz]'
	$(RUN) OMP_NUM_THREADS=2 CARVE_PROFILE=soak CARVE_KILLS=20 CARVE_KILL_SAMPLES=200 \
	  $(B) -m pytest -m 'soak or law' --soak-json=nbs/results/soak.json
mutants: $(V)/.ok  ## would the tests notice a hundred small mistakes, drawn by SEED? mutants-SEED.json; hours, taken up where it stopped
	$(V)/$(PIP) $(C) -e '.[mutants]'
	$(RUN) $(B) tools/mutants.py --seed $(SEED) --out mutants-$(SEED).json

export: $(V)/.ok  ## notebooks to modules, and notebooks cleaned
	$(EXPORT) && $(V)/bin/nbdev-clean
readme: $(V)/.ok  ## README.md from nbs/index.ipynb
	$(B) tools/readme.py
llms: $(V)/.ok  ## llms.txt, and nbs/sidebar.yml for a site by Quarto, from the notebooks
	$(B) tools/pages.py --llms
docs: $(V)/.ok $(V)-docs/.ok  ## the site from the stored notebooks, without Quarto: _docs/html/index.html; nbdev's own first step must run too
	$(RUN) $(B) -c 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=2)'
	$(V)-docs/bin/python tools/pages.py _docs/source
	$(RUN) $(B) -m recipes.living_figure _docs/source/_static/living/data
	$(V)-docs/bin/sphinx-build -q -W --keep-going -j 2 -d _docs/doctrees _docs/source _docs/html
	$(V)-docs/bin/python tools/check_site.py _docs/html
dist: $(V)/.base  ## wheel and source in dist/, the same bytes for the same commit; with TAG=v0.2.0 only if that is the version
	@v=v$$($(B) -c 'import carve_nb; print(carve_nb.__version__)'); test "$${TAG:-$$v}" = "$$v" || { echo "TAG=$$TAG, but the version is $$v"; exit 1; }
	$(V)/$(PIP) build && export SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} && $(B) -m build -o dist && $(B) tools/repack.py dist
hooks: $(V)/.ok  ## git merges and cleans notebooks by itself from now on
	$(V)/bin/nbdev-install-hooks
clean:  ## what runs and builds leave behind
	rm -rf _proc _docs demo_out study_out build dist .drift .pytest_cache *.egg-info
	find . -name __pycache__ -not -path './$(V)/*' -prune -exec rm -rf {} +
distclean: clean  ## also the environments
	rm -rf $(V) $(V)-lowest $(V)-newest $(V)-plain $(V)-vision $(V)-colab $(V)-docs

# What each environment takes. In that of the floors, the rest has the versions of constraints.txt, or pip tries for a quarter of
# an hour; but for a part of ipywidgets, which is older with its floor.
$(V)/.base:      WHAT = $(C) -e .
$(V)-plain/.ok:  WHAT = $(C) $(TORCH) $$($(LIST) base)
$(V)-docs/.ok:   WHAT = $(C) $$($(LIST) docs)
$(V)-vision/.ok: WHAT = $(C) -e '.[all,dev,vision]' $(TORCH)
$(V)-lowest/.ok: WHAT = -c $(V)-lowest/floors.txt -e '.[explore]' pytest hypothesis
$(V)-lowest/.ok: $(V)-lowest/floors.txt
$(V)-lowest/floors.txt: constraints.txt pyproject.toml
	mkdir -p $(@D) && ($(LIST) | sed -E 's/>=([0-9.]+),.*/==\1/'; cat $<) | awk -F== '$$1 != "widgetsnbextension" && !had[$$1]++' > $@
$(V)/.base $(V)-plain/.ok $(V)-docs/.ok $(V)-vision/.ok $(V)-lowest/.ok: constraints.txt pyproject.toml
	@test -n '$(PY)' || { echo 'No Python 3.11 or newer was found; name one: make PY=/path/to/python3.11'; exit 1; }
	$(PY) -m venv $(@D) && $(@D)/$(PIP) $(WHAT) && touch $@
$(V)/.ok: $(V)/.base scripts/nbdev_older  # beside nbdev's commands their older spelling: `nbdev_test --n_workers 2`
	$(V)/$(PIP) $(C) -e '.[all,dev,browser]'
	@for s in test export clean; do sed '1s|.*|#!$(abspath $(V))/bin/python|' scripts/nbdev_older > $(V)/bin/nbdev_$$s && chmod +x $(V)/bin/nbdev_$$s; done
	@touch $@
