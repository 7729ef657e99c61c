# Python 3.11 or newer and make are all that has to be there; every target sets up what it needs in $(V).
PY ?= $(shell for p in python3.11 python3 python; do \
        $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
V  ?= .venv
# Tests never ask the Hub. Two notebooks run at a time, with one thread each.
QUIET = HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
ONE   = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test soak drift notebooks pytest export readme llms docs hooks clean distclean
.NOTPARALLEL:

demo: $(V)/.ok  ## the main job: the reference model on held-out scenes, with and without the second look
	$(V)/bin/carve demo --out demo_out

test: drift notebooks pytest  ## everything that must pass; the browser tests are skipped, and say so, where no Chromium is

# The modules must be what the notebooks say: export over a copy, then compare. In a fresh clone this is the same as
# `git diff` after an export, and unlike it, it also works before a commit.
drift: $(V)/.ok
	@rm -rf .drift && cp -r carve_nb .drift
	$(V)/bin/nbdev-export
	@diff -r -x __pycache__ -x checkpoints .drift carve_nb; s=$$?; rm -rf .drift; \
	 test $$s = 0 || { echo 'carve_nb was not what the notebooks export (it is now); commit the export.'; exit 1; }

notebooks: $(V)/.ok
	$(QUIET) $(ONE) $(V)/bin/nbdev-test --n-workers 2 --do-print --timing

pytest: $(V)/.ok
	$(QUIET) OMP_NUM_THREADS=2 $(V)/bin/python -m pytest

soak: $(V)/.soak  ## the long variants: 10,000 cases of each law, fuzzing, 20 kills, 1,000 questions; half an hour
	$(QUIET) OMP_NUM_THREADS=2 CARVE_PROFILE=soak CARVE_KILLS=20 CARVE_KILL_SAMPLES=200 \
	  $(V)/bin/python -m pytest -m 'soak or law' --soak-json=nbs/results/soak.json

export: $(V)/.ok  ## notebooks to modules, and notebooks cleaned
	$(V)/bin/nbdev-export
	$(V)/bin/nbdev-clean

readme: $(V)/.ok  ## README.md from nbs/index.ipynb
	$(V)/bin/python tools/readme.py

llms: $(V)/.ok  ## llms.txt from the notebooks
	$(V)/bin/python tools/pages.py --llms

docs: $(V)/.docs  ## the site, without Quarto: _docs/html/index.html
	$(V)/bin/python tools/pages.py _docs/source
	$(V)/bin/sphinx-build -q -W --keep-going -j 2 -d _docs/doctrees _docs/source _docs/html
	$(V)/bin/python tools/check_site.py _docs/html

hooks: $(V)/.ok  ## git merges and cleans notebooks by itself from now on
	$(V)/bin/nbdev-install-hooks

$(V)/.ok: constraints.txt pyproject.toml settings.ini setup.py
	@test -n '$(PY)' || { echo 'No Python 3.11 or newer was found; name one: make PY=/path/to/python3.11'; exit 1; }
	$(PY) -m venv $(V)
	$(V)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	@touch $@

$(V)/.soak: $(V)/.ok
	$(V)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,browser,fuzz]'
	@touch $@

$(V)/.docs: $(V)/.ok
	$(V)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

clean:  ## what runs and builds leave behind
	rm -rf _proc _docs demo_out study_out build dist .drift .pytest_cache *.egg-info
	find . -name __pycache__ -not -path './$(V)/*' -prune -exec rm -rf {} +

distclean: clean  ## also the environment
	rm -rf $(V)
