# Each target sets up .venv itself; nothing but Python 3.10+, make and git is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test lab bench reproduce notebooks lint clean

help:
	@echo "make demo       run all notebooks on the embedded pictures, write runs/demo/report.html"
	@echo "make test       run the tests"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make bench      measure speed and memory against naive references"
	@echo "make reproduce  train the ablation to its plateau, several seeds (resumable)"
	@echo "make notebooks  rebuild notebooks/*.ipynb from their .py sources"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[notebooks,test]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/dkdmpl demo --out runs/demo

test: $(STAMP)
	$(BIN)/python -m pytest

lab: $(STAMP)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

bench: $(STAMP)
	$(BIN)/python -m benchmarks

reproduce: $(STAMP)
	$(BIN)/dkdmpl grid grids/reproduce.yml --out runs/reproduce --jobs 2 --threads 1
	$(BIN)/dkdmpl report runs/reproduce --publish figures/reproduce

notebooks: $(STAMP)
	$(BIN)/dkdmpl notebooks build

lint: $(STAMP)
	$(BIN)/ruff check dkdmpl_kit tests benchmarks notebooks

clean:
	rm -rf .venv runs build *.egg-info
