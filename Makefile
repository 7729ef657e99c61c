# Python 3.11 or newer and make are all that has to be there; every target sets up what it needs in $(V).
PY ?= $(shell for p in python3.11 python3 python; do \
        $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
V  ?= .venv
# The versions that are installed: those of constraints.txt; none of them with `make C=`.
C  ?= -c constraints.txt
PIP = -m pip install -q --disable-pip-version-check
# Tests never ask the Hub. Two notebooks or two tests run at a time, with one thread each.
QUIET = HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
ONE   = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test test-lowest test-newest test-torchvision colab soak lint plain drift notebooks pytest families export readme llms docs dist hooks clean distclean
.NOTPARALLEL:

demo: $(V)/.base  ## three scenes with and without the second look, and the stored result; a minute, once the environment is there
	$(V)/bin/carve demo --out demo_out --force

test: lint drift plain notebooks pytest  ## everything that must pass; the browser tests are skipped, and say so, where no Chromium is

lint: $(V)/.ok
	$(V)/bin/ruff check -q

# The modules must be what the notebooks say: export over a copy, then compare. In a fresh clone this is the same as
# `git diff` after an export, and unlike it, it also works before a commit.
drift: $(V)/.ok
	@rm -rf .drift && mkdir .drift && cp -r carve_nb recipes .drift
	$(V)/bin/nbdev-export && $(V)/bin/python tools/export_recipes.py
	@for d in carve_nb recipes; do diff -r -x __pycache__ -x checkpoints .drift/$$d $$d || s=1; done; rm -rf .drift; \
	 test -z "$$s" || { echo 'carve_nb or recipes was not what the notebooks export (it is now); commit the export.'; exit 1; }

plain: $(V)/.ok $(V)-plain/.ok  ## the wheel with its base requirements and nothing else, outside the clone
	CARVE_PLAIN=$(abspath $(V))-plain/bin/python $(ONE) $(V)/bin/python -m pytest tests/test_install.py

notebooks: $(V)/.ok
	$(QUIET) $(ONE) $(V)/bin/python tools/run_notebooks.py

pytest: $(V)/.ok
	$(QUIET) $(ONE) $(if $(wildcard _docs/html/index.html),CARVE_SITE=$(abspath _docs/html)) $(V)/bin/python -m pytest -n 2 --dist worksteal

families: $(V)/.ok  ## the table of `carve families`, from what the tests measure on each; in one process
	$(QUIET) $(ONE) $(V)/bin/python -m pytest -n 0 tests/test_families.py tests/test_stock.py tests/test_turns.py \
	  --deselect tests/test_families.py::test_table_shipped --families-json=carve_nb/checkpoints/families.json

# The oldest versions that settings.ini allows. nbdev needs a newer fastcore than the package, so only pytest runs.
# Run with these floors on Python 3.11: test_import and test_load; what they found raised that of jinja2. The other three
# have been run with the versions of constraints.txt alone. With transformers 5.15 several families failed, hence 5.23.
LOWEST = tests/test_import.py tests/test_families.py tests/test_load.py tests/test_cli.py tests/test_methods.py
test-lowest: $(V)-lowest/.ok  ## some of the tests with the oldest versions that are allowed
	$(QUIET) OMP_NUM_THREADS=2 $(V)-lowest/bin/python -m pytest $(LOWEST)

test-newest:  ## all tests with the newest versions that are allowed
	$(MAKE) V=$(V)-newest C= test

test-torchvision: $(V)-vision/.ok  ## the stock processors with torchvision: spans, pixels, rows and videos of every family
	$(QUIET) OMP_NUM_THREADS=2 $(V)-vision/bin/python -m pytest tests/test_torchvision.py

# Colab has Python 3.12; its versions are taken anew each time, since the first cell of a notebook installs over them.
colab: $(V)/.ok $(V)-colab/.ok  ## the first cell of the tutorials, and the rest of two, with Colab's versions and a wheel built here; 6 GB
	$(V)-colab/bin/python $(PIP) -r tests/colab.txt
	CARVE_COLAB=$(abspath $(V))-colab/bin/python $(ONE) $(V)/bin/python -m pytest -n 0 -rP tests/test_install.py -k colab

soak: $(V)/.soak  ## the long variants: 10,000 cases of each law, fuzzing, 20 kills, 1,000 questions; half an hour
	$(QUIET) OMP_NUM_THREADS=2 CARVE_PROFILE=soak CARVE_KILLS=20 CARVE_KILL_SAMPLES=200 \
	  $(V)/bin/python -m pytest -m 'soak or law' --soak-json=nbs/results/soak.json

export: $(V)/.ok  ## notebooks to modules, and notebooks cleaned
	$(V)/bin/nbdev-export
	$(V)/bin/python tools/export_recipes.py
	$(V)/bin/nbdev-clean

readme: $(V)/.ok  ## README.md from nbs/index.ipynb
	$(V)/bin/python tools/readme.py

llms: $(V)/.ok  ## llms.txt, and nbs/sidebar.yml for a site by Quarto, from the notebooks
	$(V)/bin/python tools/pages.py --llms

# The pages follow from the notebooks as they are stored, so nothing of the package is imported to make them.
docs: $(V)/.ok $(V)-docs/.ok  ## the site, without Quarto: _docs/html/index.html; nbdev's own first step must run too
	$(QUIET) $(ONE) $(V)/bin/python -c 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=2)'
	$(V)-docs/bin/python tools/pages.py _docs/source
	$(V)-docs/bin/sphinx-build -q -W --keep-going -j 2 -d _docs/doctrees _docs/source _docs/html
	$(V)-docs/bin/python tools/check_site.py _docs/html

dist: $(V)/.base  ## wheel and source in dist/; with TAG=v0.2.0 only if that is the version
	@$(V)/bin/python -c 'import sys, carve_nb; v = f"v{carve_nb.__version__}"; sys.exit("$(TAG)" not in ("", v) and f"TAG=$(TAG), but the version is {v}")'
	$(V)/bin/python $(PIP) build
	$(V)/bin/python -m build -o dist

hooks: $(V)/.ok  ## git merges and cleans notebooks by itself from now on
	$(V)/bin/nbdev-install-hooks

# What the package itself needs; the rest comes on top of it with the first target that tests.
$(V)/.base: constraints.txt pyproject.toml settings.ini setup.py
	@test -n '$(PY)' || { echo 'No Python 3.11 or newer was found; name one: make PY=/path/to/python3.11'; exit 1; }
	$(PY) -m venv $(V)
	$(V)/bin/python $(PIP) $(C) -e .
	@touch $@

$(V)/.ok: $(V)/.base
	$(V)/bin/python $(PIP) $(C) -e '.[all,dev,browser]'
	@# `nbdev_test --n_workers 2` and the like, as nbdev 2 spelled them; no part of the package, whose users may have nbdev 2
	@for s in test export clean; do \
	  sed '1s|.*|#!$(abspath $(V))/bin/python|' scripts/nbdev_older > $(V)/bin/nbdev_$$s; chmod +x $(V)/bin/nbdev_$$s; done
	@touch $@

$(V)-lowest/.ok: settings.ini setup.py
	$(PY) -m venv $(V)-lowest
	sed -nE 's/^ +([A-Za-z0-9_-]+)>=([0-9.]+),<.*/\1==\2/p' settings.ini > $(V)-lowest/floors.txt
	@# What has no floor takes the version of constraints.txt, or pip tries versions for a quarter of an hour; but for the
	@# the part of ipywidgets 7, which is the floor; that of ipywidgets 8 is pinned there.
	awk -F== 'NR == FNR {own[$$1]} NR == FNR || !($$1 in own || $$1 == "widgetsnbextension")' \
	  $(V)-lowest/floors.txt constraints.txt > $(V)-lowest/all.txt
	$(V)-lowest/bin/python $(PIP) -c $(V)-lowest/all.txt -e '.[explore]' pytest hypothesis
	@touch $@

$(V)-plain/.ok: constraints.txt settings.ini setup.py
	$(PY) -m venv $(V)-plain
	sed -n '/^requirements/,/^$$/s/^    \([^#]\)/\1/p' settings.ini > $(V)-plain/base.txt
	$(V)-plain/bin/python $(PIP) $(C) $(TORCH) -r $(V)-plain/base.txt
	@touch $@

$(V)-colab/.ok:
	$$(command -v python3.12 || echo $(PY)) -m venv $(V)-colab
	@touch $@

$(V)-vision/.ok: constraints.txt settings.ini setup.py
	$(PY) -m venv $(V)-vision
	$(V)-vision/bin/python $(PIP) $(C) -e '.[all,dev,vision]' $(TORCH)
	@touch $@

$(V)-docs/.ok: constraints.txt settings.ini
	$(PY) -m venv $(V)-docs
	sed -n '/^docs_requirements/,/^$$/s/^    //p' settings.ini > $(V)-docs/four.txt
	$(V)-docs/bin/python $(PIP) $(C) -r $(V)-docs/four.txt
	@touch $@

$(V)/.soak: $(V)/.ok
	$(V)/bin/python $(PIP) $(C) -e '.[all,dev,browser,fuzz]'
	@touch $@

clean:  ## what runs and builds leave behind
	rm -rf _proc _docs demo_out study_out build dist .drift .pytest_cache *.egg-info
	find . -name __pycache__ -not -path './$(V)/*' -prune -exec rm -rf {} +

distclean: clean  ## also the environments
	rm -rf $(V) $(V)-lowest $(V)-newest $(V)-plain $(V)-vision $(V)-colab $(V)-docs
