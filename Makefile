# Each target sets up .venv itself; nothing but Python 3.11+, make and git is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SIZE ?= small
PRESET ?= smoke

.PHONY: help demo test test-all check test-browser lab bench cameras soak reproduce market1501 ablation rivals robustness course site dist figures notebooks lint clean

help:
	@echo "make demo       run all notebooks on the embedded pictures, write runs/demo/report.html"
	@echo "make test       run every test (ten to twenty minutes on two cores)"
	@echo "make test-all   run the tests, and the notebooks on every set of photographs"
	@echo "make check      run the fast tests (a minute and a half)"
	@echo "make test-browser  run the notebooks in JupyterLab and move their widgets in Chromium (minutes;"
	@echo "                SCREENSHOTS=folder keeps pictures of the widgets, PRESET=demo OUT=runs/demo makes them nicer)"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make bench      measure speed and memory (SIZE=full: at the data sets' sizes, half an hour)"
	@echo "make cameras DATA=features.npz  CA-Jaccard beside the plain distance, on the features that embed wrote"
	@echo "make soak       kill a training fifty times and compare its end (about ten minutes)"
	@echo "make reproduce  train the ablation to its plateau, several seeds (resumable)"
	@echo "make market1501 DATA=folder  the same rows on the real Market-1501, an hour a run (resumable)"
	@echo "make ablation   GKD x SKD in ten epochs, three seeds, one page: half an hour (resumable)"
	@echo "make rivals    train eight objectives with equal budgets, several seeds (resumable)"
	@echo "make robustness injected label noise against each loss, on a head over frozen features (resumable)"
	@echo "make course     learner's copies of the notebooks, and slides"
	@echo "make site       the course as static pages in runs/site, which open without a network; after make demo,"
	@echo "                or with DEMO=the folder of another run of the notebooks"
	@echo "make dist       a wheel and an sdist in dist/, both checked"
	@echo "make figures    copy the README's pictures from the last demo to figures/"
	@echo "make notebooks  rebuild notebooks/*.ipynb from their .py sources"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[notebooks,runs,test]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/dkdmpl demo --out runs/demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

# with each notebook on both sets of photographs, where they lie beside the checkout
test-all: $(STAMP)
	DKDMPL_LONG=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# in a real browser, Debian's own: nothing is downloaded but packages, and the tests let no request leave the machine
test-browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
	  { echo "make test-browser needs Chromium, and only root can install it here: apt-get install chromium"; exit 1; }
	DKDMPL_BROWSER=1 DKDMPL_BROWSER_PRESET=$(PRESET) DKDMPL_BROWSER_OUT=$(OUT) DKDMPL_BROWSER_SHOTS=$(SCREENSHOTS) \
	  $(BIN)/python -m pytest tests/browser --durations=12

lab: $(STAMP)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

bench: $(STAMP)
	$(BIN)/python -m benchmarks --size $(SIZE)

cameras: $(STAMP)
	@test -n "$(DATA)" || { echo "make cameras needs DATA=a file of features that dkdmpl embed wrote with a pattern"; exit 1; }
	$(BIN)/python -m benchmarks.cameras $(DATA)

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak

reproduce: $(STAMP)
	$(BIN)/dkdmpl grid grids/reproduce.yml --out runs/reproduce --jobs 2 --threads 1
	$(BIN)/dkdmpl report runs/reproduce --publish figures/reproduce

# DATA: the folder Market-1501-v15.09.15, as its authors lay it out
market1501: $(STAMP)
	@test -d "$(DATA)/bounding_box_train" || \
	  { echo "make market1501 needs DATA=the folder that holds bounding_box_train, query and bounding_box_test"; exit 1; }
	MARKET1501="$(abspath $(DATA))" $(BIN)/dkdmpl grid grids/market1501.yml --out runs/market1501 --jobs 2 --threads 1
	$(BIN)/dkdmpl report runs/market1501 --publish figures/market1501

ablation: $(STAMP)
	$(BIN)/dkdmpl grid grids/ablation.yml --out runs/ablation --jobs 2 --threads 1
	$(BIN)/dkdmpl report runs/ablation --publish figures/ablation

rivals: $(STAMP)
	$(BIN)/dkdmpl grid grids/rivals.yml --out runs/rivals --jobs 2 --threads 1
	$(BIN)/dkdmpl report runs/rivals --publish figures/rivals

robustness: $(STAMP)
	$(BIN)/dkdmpl robustness --out runs/robustness --publish figures/robustness

# learner's copies of the notebooks without solutions, and slides of them
course: $(STAMP)
	$(BIN)/dkdmpl notebooks learner --out learner
	$(BIN)/dkdmpl notebooks slides --out runs/slides

# executed notebooks, guides, the library's and the commands' reference; a dead link is an error
DEMO ?= runs/demo
site: $(STAMP)
	@test -d "$(DEMO)/notebooks" || { echo "make site shows what make demo has run, and $(DEMO) holds none: run make demo first"; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[site]"
	$(BIN)/python docs/site/build.py --demo "$(DEMO)" --out runs/site

dist: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dist]"
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

# the pictures that the README shows, from the last `make demo`
figures: $(STAMP)
	mkdir -p figures/demo
	$(BIN)/dkdmpl player runs/demo/runs/dkdmpl-seed0 --out figures/demo/player.gif figures/demo/player.png
	for name in 01_contact_sheet 05_results 06_maps 06_ranking_dkdmpl; do \
	  cp runs/demo/figures/$$name.png runs/demo/figures/$$name.json figures/demo/; done

notebooks: $(STAMP)
	$(BIN)/dkdmpl notebooks build

lint: $(STAMP)
	$(BIN)/ruff check dkdmpl_kit tests benchmarks notebooks docs

clean:
	rm -rf .venv runs build dist *.egg-info
