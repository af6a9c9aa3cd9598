"""Jobs of encoders with presets: the size of stored patches, and what trains them again."""

import pytest
import yaml

from her2pipe.registry import PRESETS
from her2pipe.workflow.commands import Commands
from her2pipe.workflow.fingerprints import Fingerprints
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.study import Study
from her2pipe.workflow.targets import Targets

STUDY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "train": {"fractions": {}},
    "encoders": {
        "uni": {"preset": "uni"},
        "hibou": {"preset": "hibou-b"},
        "giga": {"preset": "prov-gigapath"},
        "conch": {"preset": "conch"},
        "shared": {"preset": "virchow2", "view": "adaptive"},
        "swin": {"task": "none", "view": "adaptive"},
    },
}


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Inputs of a study of several presets, with changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.svs").touch()
    (tmp_path / "A.tsv").write_text("slide\tpath\tpatient\ther2\nS1\ta.svs\tP1\tpositive\n")

    def of(**changes):
        methods = {name: {"encoder": name, "aggregate": "clam"} for name in STUDY["encoders"]}
        study = {**STUDY, "methods": methods, **changes}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        return Inputs(Targets(Study.load(study, "study.yaml", check_files=False)))

    return of


@pytest.fixture
def sizes(inputs):
    """Stored sizes by view, and what the tile command says of them."""

    def of(views=(), **changes):
        job_inputs = inputs(**changes)
        targets, commands = job_inputs.targets, Commands(job_inputs)

        def flags(view):
            wildcards = type("Wildcards", (), {"view": view, "cohort": "A"})
            words = commands.tile(wildcards).split()
            return words[words.index("--patch-px") + 1] if "--patch-px" in words else ""

        views = views or ("112um", "128um", "256um", "adaptive")
        return [targets.patch_px(view) for view in views], [flags(view) for view in views]

    return of


def test_a_view_is_stored_as_its_encoders_want_it(sizes):
    assert sizes() == ([224, 256, 512, 512], ["224", "256", "", ""])


def test_a_size_that_is_given_holds(sizes):
    """The published size, spelled out, is the default's command: nothing reruns."""
    assert sizes(tile={"patch_px": 512}) == ([512] * 4, [""] * 4)
    assert sizes(tile={"patch_px": 96}) == ([96] * 4, ["96"] * 4)
    assert sizes(tile={"view_px": {"112um": 448}})[0] == [448, 256, 512, 512]


def test_a_view_of_fewer_px_is_stored_as_it_is(sizes):
    """So the command of such a view is another, and of others what it was."""
    assert sizes(("8", "36", "512", "1024")) == ([16, 36, 512, 512], ["16", "36", "", ""])


def test_a_presets_training_runs_again_with_another_file(inputs):
    network = Fingerprints(inputs()).network("train")

    def params(encoder):
        return network(type("Wildcards", (), {"encoder": encoder}))

    assert params("uni") == [f"weights {PRESETS['uni'].sha256[:16]}"]
    assert params("swin") == []
