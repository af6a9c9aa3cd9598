# make demo   set up and run the demo study      make test   set up and run the tests
# make setup  only set up                        make lint   style, types and workflow checks
# make bench  measure against named peers        make pins   renew requirements.txt and envs
#             (hours; NAMES="tile fit" for some; QUICK=1 only sees that each script works)
# make demo-ihc    IHC grades, in the folder demo-ihc
# make demo-light  lightweight networks on images, in the folder demo-light
# make cluster     the demo study through a SLURM started on this machine (root, Debian)
# make fast        the tests that take little   make coverage   all, and which lines they run
# make test-versions  the fast tests under Python 3.12 and 3.13
# make audit       a list of all libraries (CycloneDX, in dist), and their known weaknesses
# make docs        the manual as a site, in site, to be opened from disk (needs no network)
# make wheel       the package with its workflow, to be installed elsewhere, in dist
# make definition  renew container/her2pipe.def, Apptainer's image, from the Dockerfile

# Not the one of .venv, if that is active: it is about to be replaced.
PYTHON ?= $(shell PATH="$$(printf %s "$$PATH" | sed 's|[^:]*/\.venv/bin:*||g')"; \
  command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/ready
export UV_PYTHON := $(BIN)/python
export PYTHONUNBUFFERED := 1
# A study starts Python hundreds of times: compiled modules halve the time each start takes.
export PYTHONDONTWRITEBYTECODE :=
# HTCondor's library warns at every start where a machine has no HTCondor.
export PYTHONWARNINGS ?= ignore:The environment variable CONDOR_CONFIG

.PHONY: setup demo demo-ihc demo-light cluster test fast test-versions coverage bench lint docs pins \
  wheel definition audit schema clean

setup: $(READY)

$(READY): requirements.txt profiles/slurm/requirements.txt pyproject.toml
	@echo "her2pipe: setting up .venv (about a minute and 6 GB, once)"
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet -r requirements.txt
	$(BIN)/uv pip install --quiet --no-deps -r profiles/slurm/requirements.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@# Compiled here side by side: the first jobs would wait for it.
	@$(BIN)/snakemake --version > /dev/null & \
	  $(BIN)/python -c "import scipy.stats, sklearn.linear_model, skimage.measure, bokeh.plotting" & \
	  $(BIN)/python -c "import timm, torchvision.transforms.v2" & wait
	@touch $(READY)

demo: $(READY)
	@echo "her2pipe: the demo study, about 350 short jobs; three minutes on two idle cores"
	$(BIN)/snakemake --cores all \
	  --prioritize results/train/swin-t --set-threads train=1 pretrain=1
	@echo
	@echo "Done. Open  results/report/index.html   the study as one page"
	@echo "      Read  results/compare/methods.tsv AUC of each method on each cohort"
	@echo "            results/ledger/ledger.tsv   status of every slide, with reasons"

demo-ihc: $(READY)
	@echo "her2pipe: the demo of IHC grading, about 200 jobs; ten to fifteen minutes on two cores"
	$(BIN)/snakemake --cores all --configfile studies/ihc-demo.yaml --directory demo-ihc \
	  --set-threads train=1
	@echo
	@echo "Done. Open  demo-ihc/results/report/index.html   the study as one page"
	@echo "      Read  demo-ihc/results/compare/methods.tsv AUC of each network on each centre"
	@echo "      See   demo-ihc/results/explain             Grad-CAM of each grade by two networks"

demo-light: $(READY)
	@echo "her2pipe: the light demo study, about 50 short jobs; two to five minutes on two cores"
	$(BIN)/snakemake --cores all --configfile studies/light-demo.yaml \
	  --directory demo-light --set-threads train=1 pretrain=1 deploy=1
	@echo
	@echo "Done. Open  demo-light/results/report/index.html    the study as one page"
	@echo "      Read  demo-light/results/compare/classes.tsv  AUC and calls of each network"
	@echo "            demo-light/results/deploy               size, speed and accuracy of its files"

CLUSTER := demo-cluster
cluster: $(READY)
	@echo "her2pipe: the demo study through a SLURM of one node, in $(CLUSTER); about a quarter of an hour"
	$(BIN)/python tests/system/slurm/node.py start
	$(BIN)/snakemake --profile $(CURDIR)/profiles/slurm --directory $(CLUSTER) --jobs 8 --latency-wait 15 \
	  --slurm-init-seconds-before-status-checks 3 \
	  --groups synthesise=slides tile=slides score=statistics evaluate=statistics \
	  compare=summary ledger=summary report=summary --group-components slides=4 \
	  --prioritize results/train/swin-t --set-threads train=1 pretrain=1; \
	  ended=$$?; $(BIN)/python tests/system/slurm/node.py stop; exit $$ended
	@echo
	@echo "Done. Open  $(CLUSTER)/results/report/index.html   the study as one page"
	@echo "      See   $(CLUSTER)/logs/slurm                  SLURM's messages for failed jobs"

# In the order of folders: large tests come before small ones, and no core waits for the last.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

fast: $(READY)
	$(PYTEST) -m "not slow and not slurm and not envs and not demo"

test-versions: $(READY)
	$(BIN)/python tests/versions.py -n 2 --dist loadscope

coverage: $(READY)
	$(PYTEST) --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Open  site/index.html"

bench: $(READY)
	$(BIN)/python bench $(if $(QUICK),--quick) $(NAMES)

pins: $(READY)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate \
	  --no-emit-index-url --all-extras pyproject.toml -o requirements.txt
	$(BIN)/python envs/pins.py

wheel: $(READY)
	$(BIN)/uv build --quiet --no-build-isolation
	@ls dist

definition: $(READY)
	$(BIN)/python container/definition.py

audit: $(READY)
	@mkdir -p dist
	$(BIN)/uvx -q --from cyclonedx-bom==7.5.0 cyclonedx-py environment --pyproject pyproject.toml \
	  --output-reproducible -o dist/her2pipe.cdx.json $(BIN)/python
	$(BIN)/uvx -q --from pip-audit==2.10.1 pip-audit -r requirements.txt --no-deps --disable-pip

schema: $(READY)
	$(BIN)/python -m her2pipe.config.schema > studies/schema.json

clean:
	rm -rf site results logs benchmarks bench/output .snakemake demo-ihc demo-light demo-cluster demo-3.*
