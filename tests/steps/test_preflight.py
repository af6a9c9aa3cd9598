"""Preflight: what is known before the first job, of headers and of the study."""

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import slides as drawn
from safetensors.numpy import save_file
from small_study import STUDY, sheet_lines, write_study
from stores import DATA
from three_lines import problems_of

from her2pipe import cli
from her2pipe.cohorts import survey
from her2pipe.config import PreflightSettings
from her2pipe.files import read_table
from her2pipe.workflow import preflight
from her2pipe.workflow.networks import buildable, published, remote, trials
from her2pipe.workflow.study import Study

SHEETS = {"A": sheet_lines("A", 6), "B": sheet_lines("B", 5)}


# --- headers -------------------------------------------------------------------------------------


@pytest.fixture
def sheet(tmp_path):
    """A sheet of four slides: one at another scale, one without, one with another's annotation."""
    picture = drawn.tissue(600, 500)
    drawn.svs(tmp_path / "a.svs", picture, mpp=0.25)
    drawn.generic(tmp_path / "b.tif", picture, mpp=0.5)
    drawn.generic(tmp_path / "c.tif", picture, mpp=50)  # the resolution of a print
    (tmp_path / "d.svs").write_bytes(b"no slide at all")
    ring = [[9000, 9000], [9900, 9000], [9900, 9900], [9000, 9000]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "a.geojson").write_text(json.dumps(feature | {"properties": {}}))
    lines = ["slide\tpath\tpatient\tannotation"]
    for name in ("a.svs", "b.tif", "c.tif", "d.svs"):
        annotation = "a.geojson" if name == "a.svs" else ""
        lines.append(f"{name[0]}\t{name}\tP-{name[0]}\t{annotation}")
    path = tmp_path / "S.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_headers_are_compared(sheet, tmp_path, capsys):
    folder = tmp_path / "out"
    words = ["preflight", str(folder), f"--sheet=B={sheet}", f"--root=B={tmp_path}"]
    assert cli.main(words) == 0
    table = read_table(folder / "slides.tsv")
    assert [row["slide"] for row in table] == ["a", "b", "c", "d"]
    assert [row["mpp"] for row in table] == ["0.250000", "0.500000", "", ""]
    assert table[0]["width_px0"] == "600"
    assert table[3]["fault"]
    notes = [row["note"] for row in read_table(folder / "notes.tsv")]
    assert any("a: the annotation lies outside the slide" in note for note in notes)
    assert "no resolution in header or sheet: c" in notes
    assert "mixed scales: from 0.25 um/px (a) to 0.5 (b)" in notes
    printed = capsys.readouterr().out
    assert "um/px" in printed
    assert "0.25 to 0.5" in printed


def test_one_scale_is_not_mixed():
    headers = [survey.Header("A", f"S{i}", "tiff", 9, 9, 0.25 + i / 1000) for i in range(5)]
    assert survey.notes(headers, PreflightSettings()) == []
    assert survey.notes(headers, PreflightSettings(mpp_ratio_max=1.001)) == [
        "mixed scales: from 0.25 um/px (S0) to 0.254 (S4)"
    ]


@pytest.mark.skipif(not DATA.exists(), reason="no real data beside the project")
def test_real_slides(tmp_path, capsys):
    files = {
        "small": "wsi/CMU-1-Small-Region.svs",
        "dapi": "wsi/test3-DAPI-2-(387).ndpi",
        "broken": "wsi/broken.svs",
        "dicom": "wsi/wsi2dcm_jpeg.dcm",
        "thumb": "tcga_brca_thumbs/TCGA-A2-A0CX-01Z-00-DX1.png",
    }
    lines = ["slide\tpath\tpatient\tannotation"]
    for name, file in files.items():
        annotation = DATA / "annotations/TCGA-EJ-5518-01Z-00-DX1.xml" if name == "small" else ""
        lines.append(f"{name}\t{DATA / file}\tP-{name}\t{annotation}")
    (tmp_path / "S.tsv").write_text("\n".join(lines) + "\n")
    assert cli.main(["preflight", str(tmp_path / "out"), f"--sheet=B={tmp_path / 'S.tsv'}"]) == 0
    notes = [row["note"] for row in read_table(tmp_path / "out" / "notes.tsv")]
    assert notes == [
        "small: the annotation lies outside the slide: its regions reach from (2832, 13255) to"
        " (47018, 54498), the slide has 2220 x 2967 px",
        "broken: unreadable: not a slide (OpenSlide: Unsupported or missing image file)",
        "no resolution in header or sheet: thumb",
        "mixed scales: from 0.2282 um/px (dapi) to 16.78 (dicom)",
        "mixed magnifications: 1 at 20x, 1 at 40x",
    ]
    printed = capsys.readouterr().out
    assert "slides           5, of which 1 cannot be opened" in printed
    assert "um/px            0.228175 to 16.7" in printed


# --- the study -----------------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a small study with changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def loaded(change=None, sheets=None):
        study = STUDY | (change or {})
        write_study(tmp_path, study, SHEETS | (sheets or {}))
        return Study.load(study, "study.yaml")

    return loaded


def test_labels_and_columns_of_each_cohort(load):
    lines = [
        "\t".join([SHEETS["B"][0], "her2_stauts", "site"]),
        *(f"{line}\tx\ty" for line in SHEETS["B"][1:]),
    ]
    notes = preflight.notes(load(sheets={"B": lines}))
    assert notes[0].startswith("A: 6 slides of 6 patients; ")
    assert "HER2" in notes[0]
    assert "B: columns that nothing reads: her2_stauts (the nearest known is her2)" in notes


def test_a_fit_needs_slides_that_judge_it(load):
    """The internal validation side has slides of either status, or the encoders have folds."""
    head, *lines = SHEETS["A"]
    column = head.split("\t").index("her2")
    lines = [f"{line}\ttrain" for line in lines]
    positive = next(i for i, line in enumerate(lines) if line.split("\t")[column] == "positive")
    sheet = [f"{head}\tsplit", *lines]
    (problem,) = preflight._unjudged_fits(load(sheets={"A": sheet}))
    assert problem.what.startswith("no positive slide is kept for validation, which judges the fit")
    sheet[positive + 1] = sheet[positive + 1].replace("\ttrain", "\tvalidation")
    (problem,) = preflight._unjudged_fits(load(sheets={"A": sheet}))
    assert problem.what.startswith("no negative slide")
    fit = {"fit": STUDY["fit"] | {"cross_fit": "encoder"}}
    assert [*preflight._unjudged_fits(load(fit, sheets={"A": sheet}))] == []
    assert [*preflight._unjudged_fits(load())] == []


def encoder_with(**settings):
    (name,) = STUDY["encoders"]
    return {"encoders": {name: {**STUDY["encoders"][name], **settings}}}


def test_weights_are_looked_into(load, tmp_path):
    import numpy as np

    save_file({"x": np.zeros(100, np.float32)}, tmp_path / "w.safetensors")
    study = load(encoder_with(weights="w.safetensors"))
    assert [*preflight._weights(study)] == []
    data = (tmp_path / "w.safetensors").read_bytes()
    for damaged, reason in ((data[:-4], "are cut short"), (b"", "are no safetensors file"),
                            (b"PK" * 50, "are no safetensors file")):  # fmt: skip
        (tmp_path / "w.safetensors").write_bytes(damaged)
        (problem,) = preflight._weights(study)
        assert problem.what == f"the starting weights w.safetensors {reason}"
        assert problem.where == "study.yaml, key encoders.small.weights"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", b"", "is empty"),
        ("a.xml", b"II*\0", "is no .xml file"),
        ("a.geojson", b"<xml>", "is no .geojson file"),
        ("a.xml", b"\xef\xbb\xbf <Annotations/>", ""),
        ("a.png", b"\x89PNG", ""),
    ],
)
def test_annotations_are_looked_into(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    assert preflight._annotation_fault(tmp_path / name) == reason


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ({"architecture": "resnet18", "input_px": 64}, ""),
        ({"architecture": "resnet18", "input_px": 64, "features": "layer3"}, ""),
        ({"architecture": "resnet81", "input_px": 64}, "unknown architecture resnet81"),
        ({"architecture": "resnet18", "input_px": 64, "features": "layer9"}, "layer9"),
        ({"architecture": "alexnet", "input_px": 32}, "takes no input of"),
        (
            {"architecture": "resnet18", "input_px": 64, "frozen": ["layers.0"]},
            "no module layers.0",
        ),
    ],
)
def test_networks_are_built_without_weights(encoder, words):
    fault = buildable.fault(encoder)
    assert words in fault
    assert bool(fault) == bool(words)


def test_a_network_is_tried_once(load, monkeypatch):
    study = load()
    tried = []

    def run(command, **_):
        networks = json.loads(command[-1])
        tried.append(networks)
        return SimpleNamespace(stdout=json.dumps([{"fault": ""}] * len(networks)))

    monkeypatch.setattr(trials.subprocess, "run", run)
    assert [*preflight._networks(study)] == []
    assert [*preflight._networks(study)] == []
    assert len(tried) == 1
    wrong = load(encoder_with(architecture="resnet81"))
    monkeypatch.setattr(
        trials.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(
            stdout='[{"fault": "unknown architecture resnet81; did you mean resnet18?"}]'
        ),
    )
    (problem,) = preflight._networks(wrong)
    assert problem.where == "study.yaml, key encoders.small.architecture"
    assert problem.fix == "did you mean resnet18?"


def test_weights_that_are_here_are_compared_with_their_network(load, tmp_path, monkeypatch):
    """By names and shapes, before the first job; again when the file has changed."""
    import torch

    from her2pipe.models import factory

    def tried(networks):
        return {k: trials.Trial(**buildable.tried(network)) for k, network in networks.items()}

    monkeypatch.setattr(trials, "run", tried)
    state = factory.create("resnet10t", 3).state_dict()
    less = {k: v for k, v in state.items() if not k.startswith("layer3.")}
    torch.save({"state_dict": less | {"extra": torch.zeros(1)}}, tmp_path / "w.pth")
    study = load(encoder_with(architecture="resnet10t", weights="w.pth"))
    (problem,) = preflight._networks(study)
    assert "tensors are missing (layer3.0.conv1.weight" in problem.what
    assert "1 tensor is not of this network (extra)" in problem.what
    assert problem.where == "study.yaml, key encoders.small.weights"
    assert problem.fix == "give weights of the same architecture and input size"
    torch.save(state, tmp_path / "w.pth")
    assert [*preflight._networks(study)] == []
    tries = []
    monkeypatch.setattr(trials, "run", lambda networks: tries.extend(networks) or {})
    assert [*preflight._networks(study)] == tries == []  # remembered


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache of this test, and answers of a hub that is never asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    answers = {"answer": "", "asked": 0}

    def ask(remotes):
        answers["asked"] += 1
        return dict.fromkeys(remotes, answers["answer"])

    def cache(repository, *files):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("c0ffee")
        (folder / "snapshots" / "c0ffee").mkdir(parents=True)
        for file in files:
            (folder / "snapshots" / "c0ffee" / file).write_text("x")

    monkeypatch.setattr(remote, "ask", ask)
    return SimpleNamespace(answers=answers, cache=cache, constants=constants)


def test_weights_of_the_hub_are_here_or_within_reach(load, hub, monkeypatch):
    study = load(encoder_with(architecture="hf-hub:o/n@main", weights="source"))
    assert [*published.problems(study)] == published.notes(study) == []
    hub.answers["answer"] = "unreachable: ConnectError"
    assert [*published.problems(study)] == []
    (note,) = published.notes(study)
    assert note.startswith("the weights of encoder small (o/n) are not in the cache")
    assert note.endswith("fetch them first: hf download o/n --revision main")
    hub.answers["answer"] = "refused: its owners must grant access first"
    (problem,) = published.problems(study)
    assert problem.what.endswith("cannot be fetched from o/n, its owners must grant access first")
    assert published.notes(study) == []
    asked = hub.answers["asked"]
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    (problem,) = published.problems(study)
    assert "HF_HUB_OFFLINE forbids to fetch them" in problem.what
    hub.cache("o/n", "config.json", "pytorch_model.bin")
    assert [*published.problems(study)] == published.notes(study) == []
    assert hub.answers["asked"] == asked


def test_weights_of_presets_are_in_the_cache_or_to_be_fetched(load, hub, monkeypatch):
    study = load(encoder_with(preset="chief", task="classify"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    (problem,) = published.problems(study)
    assert problem.fix == "fetch them where there is a network: her2pipe encoders fetch chief"
    assert problem.what.endswith("forbids to fetch them: MahmoodLab/hest-bench")


def test_another_scale_than_the_presets_is_noted(load):
    def scales(**values):
        study = load(encoder_with(preset="uni", weights="none", task="classify", **values))
        return [note for note in preflight.notes(study) if "its preset" in note]

    assert scales() == scales(view="128um") == scales(view="224um", input_px=448) == []
    (note,) = scales(view="256um")
    assert note == (
        "encoder small sees view 256um at 1.14 um/px; its preset uni is meant for 0.5 (view: 112um)"
    )
    assert "at a scale that differs by slide" in scales(view="adaptive")[0]


def test_published_weights_are_looked_for_where_timm_has_them(load, hub):
    change = encoder_with(architecture="resnet10t", weights="imagenet", input_px=64)
    study = load(change)
    network = trials.of_encoder(study.settings.encoders["small"])
    trials.remember(network, trials.Trial(**buildable.tried(network)))
    hub.answers["answer"] = "unreachable: ConnectError"
    (note,) = published.notes(study)
    assert "(timm/resnet10t.c3_in1k)" in note
    hub.cache("timm/resnet10t.c3_in1k", "model.safetensors")
    assert published.notes(study) == []


def test_networks_without_published_weights(load, hub, tmp_path):
    study = load(encoder_with(architecture="ather2", weights="imagenet"))
    network = trials.of_encoder(study.settings.encoders["small"])
    trials.remember(network, trials.Trial(weights=asdict(remote.Remote())))
    (problem,) = published.problems(study)
    assert problem.what == "there are no published weights of ather2"
    assert problem.where == "study.yaml, key encoders.small.weights"
    trials.remember(network, trials.Trial())  # of a plugin: nobody knows
    assert [*published.problems(study)] == []
    done = tmp_path / "results" / "train" / "small"
    done.mkdir(parents=True)
    (done / "model.json").touch()
    trials.remember(network, trials.Trial(weights=asdict(remote.Remote())))
    assert [*published.problems(study)] == []


def test_a_file_of_a_server_is_looked_for_in_the_cache_of_torch(hub, tmp_path):
    alexnet = buildable.tried({"architecture": "alexnet", "input_px": 224})["weights"]
    place = remote.Remote(url=alexnet["url"], files=())
    assert not remote.is_cached(place)
    file = tmp_path / "torch" / "hub" / "checkpoints" / alexnet["url"].rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.touch()
    assert remote.is_cached(place)


def test_a_network_that_never_answers_is_given_up(monkeypatch):
    import threading

    monkeypatch.setattr(remote, "TOTAL_S", 0.1)
    silence = threading.Event()
    monkeypatch.setattr(remote, "_on_hub", lambda _: silence.wait(20))
    place = remote.Remote("o/never")
    assert remote.ask((place,))[place].startswith("unreachable: no answer")
    silence.set()


def test_answers_of_a_server(tmp_path):
    """A server's refusal differs from no server: only the second may be otherwise for a job."""
    import http.server
    import threading

    (tmp_path / "w.pth").write_bytes(b"x")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        here, gone = (remote.Remote(url=f"{url}/{name}.pth", files=()) for name in "wx")
        answers = remote.ask((here, gone))
        server.shutdown()
    assert answers == {here: "", gone: "refused: the server answers 404"}
    nowhere = remote.Remote(url="http://127.0.0.1:9/w.pth", files=())
    assert remote.ask((nowhere,))[nowhere].startswith("unreachable: ")


def test_a_folder_of_a_network_is_looked_into(load, tmp_path):
    (tmp_path / "net").mkdir()
    study = load(encoder_with(architecture="local-dir:net", weights="source"))
    (problem,) = preflight._weights(study)
    assert problem.what == "the folder has no weights"
    (tmp_path / "net" / "model.safetensors").touch()
    (problem,) = preflight._weights(study)
    assert "not a description of a timm network" in problem.what


def test_an_archive_is_known_by_its_sum(load, tmp_path, monkeypatch):
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"half of it")
    change = encoder_with(pretrain="objects", weights="none")
    study = load(change | {"pretrainings": {"objects": {"architecture": "test_resnet"}}})
    (problem,) = preflight._archives(study)
    assert problem.what.startswith("the file's MD5 is ")
    assert problem.where.startswith("study.yaml, key pretrainings.objects.images; ")
    done = tmp_path / "results" / "pretrain" / "objects"
    done.mkdir(parents=True)
    (done / "model.json").touch()  # nobody reads them any more
    assert [*preflight._archives(study)] == []


def test_fractions_of_views_that_nothing_is_trained_on(load):
    change = encoder_with(train_views=["adaptive"], fractions={"512": {"HER2+": 0.5}})
    (problem,) = problems_of(load, change)
    assert problem.what.startswith("fractions of view 512 are given")
    assert problem.fix == "name one of train_views: adaptive"


def test_a_study_is_surveyed(sheet, tmp_path, monkeypatch, capsys):
    for name in ("A", "B"):
        lines = Path(sheet).read_text().replace("slide\tpath", "slide\tpath").splitlines()
        head, *rows = [line for line in lines if not line.startswith("d\t")]
        folder = tmp_path / name
        folder.mkdir()
        for file in ("a.svs", "b.tif", "c.tif", "a.geojson"):
            shutil.copy(tmp_path / file, folder / file)
        status = ["positive", "negative", "positive"]
        text = [f"{head}\ther2"]
        text += [f"{r.replace('P-', f'{name}-P')}\t{s}" for r, s in zip(rows, status, strict=True)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(text) + "\n")
    import yaml

    study = {
        "cohorts": {
            "A": {"sheet": "A.tsv", "role": "development", "root": "A"},
            "B": {"sheet": "B.tsv", "role": "external", "root": "B"},
        },
        "encoders": STUDY["encoders"],
        "methods": {"M": {"encoder": next(iter(STUDY["encoders"])), "aggregate": "mean"}},
        "fit": {"cross_fit": "encoder"},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(preflight, "_networks", lambda study: [])
    assert cli.main(["preflight", "--configfile", str(tmp_path / "study.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "A: 3 slides of 3 patients; HER2+ 2, HER2- 1" in printed
    assert printed.count("mixed scales") == 2
    assert printed.count("lies outside the slide") == 2
