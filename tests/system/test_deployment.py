"""The workflow as others use it: as a module, deployed by snakedeploy, and in a container."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from process_client import SNAKEMAKE
from process_server import shared
from small_study import LOCALLY, ROOT, STUDY, arguments, sheet_lines, write_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

OWN_RULE = """

rule mine:
    default_target: True
    input: rules.all.input
    output: "mine.txt"
    shell: "wc -l results/compare/methods.tsv > {output}"
"""
# Stands for Apptainer: what it is asked to run in an image runs with that image's PATH only.
APPTAINER = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.3.4"; exit; fi
while [ "$1" != -c ]; do
    case "$1" in *.sif) echo "$1" >> {log} ;; esac
    shift
done
exec env -i PATH={image}:/usr/bin:/bin bash -c "$2"
"""


def deployed(folder):
    """Deploy this clone by snakedeploy, with a rule of the user's; return the Snakefile."""
    deploy = pytest.importorskip("snakedeploy.deploy").deploy
    source, deployment = folder / "source", folder / "deployed"
    source.mkdir()
    for name in ("workflow", "profiles", "config", "studies", "Snakefile", "config.yaml", "envs"):
        (source / name).symlink_to(ROOT / name)
    deploy(str(source), "her2pipe", None, "main", deployment)
    shipped = yaml.safe_load((deployment / "config/config.yaml").read_text())
    assert shipped == yaml.safe_load((ROOT / "studies/tlpa.yaml").read_text())
    assert (deployment / "profiles/default/config.yaml").exists()
    file = deployment / "workflow/Snakefile"
    # Of a local source snakedeploy writes the path inside it alone.
    text, count = re.subn(
        '"workflow/Snakefile"', f'"{source}/workflow/Snakefile"', file.read_text()
    )
    assert count == 1
    file.write_text(text + OWN_RULE)
    return file


def run(file, *words):
    """Run the Snakefile of a deployment in its folder."""
    folder = file.parents[1]
    words = ["snakemake", "--directory", folder, "--snakefile", file, *LOCALLY, *words]
    done = shared().run(SNAKEMAKE, [*map(str, words), "--quiet", "rules"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def configure(file, study, **slides):
    """Give a deployment a study of cohorts of so many slides."""
    config = file.parents[1] / "config"
    write_study(config, study, {name: sheet_lines(name, n) for name, n in slides.items()})
    (config / "study.yaml").replace(config / "config.yaml")


def test_a_deployed_workflow_is_a_module_with_rules_beside_it(tmp_path):
    """snakedeploy's own Snakefile, with a rule of the user's, plans the whole study."""
    file = deployed(tmp_path)
    configure(file, STUDY, A=6, B=2)
    counted = dict(re.findall(r"^(\w+) +(\d+)$", run(file, "-n"), re.M))
    assert counted.items() >= {"tile": "8", "train": "1", "report": "1", "mine": "1"}.items()


@pytest.mark.envs
def test_a_deployed_workflow_runs_to_its_end(tmp_path):
    """To the page, and to a table by a rule of the user's, which reads what the module wrote."""
    file = deployed(tmp_path)
    configure(file, STUDY | {"methods": {"TL-PA": {"encoder": "small"}}}, A=4, B=2)
    run(file)
    folder = file.parents[1]
    assert (folder / "results/report/index.html").stat().st_size > 100_000
    assert (folder / "mine.txt").read_text() == "3 results/compare/methods.tsv\n"
    assert "Nothing to be done" in run(file)


@pytest.mark.envs
def test_rules_run_in_the_image_that_the_study_names(tmp_path):
    """With --software-deployment-method apptainer, and by the image's own her2pipe."""
    folder, image, bin_ = tmp_path / "study", tmp_path / "image", tmp_path / "bin"
    study = STUDY | {"study": {"container": str(tmp_path / "her2pipe.sif")}}
    write_study(folder, study, {"A": sheet_lines("A", 6), "B": sheet_lines("B", 2)})
    image.mkdir()
    (tmp_path / "her2pipe.sif").touch()
    (image / "her2pipe").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m her2pipe.cli "$@"\n')
    (image / "her2pipe").chmod(0o755)
    bin_.mkdir()
    (bin_ / "apptainer").write_text(APPTAINER.format(log=tmp_path / "images", image=image))
    (bin_ / "apptainer").chmod(0o755)
    target = "results/tile/adaptive/B/B-1.h5"
    command = [sys.executable, "-m", *arguments(folder, *LOCALLY, target)]
    command += ["--software-deployment-method", "apptainer"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{bin_}:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / target).exists()
    assert (tmp_path / "images").read_text().splitlines() == 2 * [str(tmp_path / "her2pipe.sif")]
