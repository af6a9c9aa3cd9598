"""Encoders compared: ranks and their test by hand, costs, and what the page shows of them."""

import json

import numpy as np
import pytest
from manifests import write_manifest

from her2pipe.config import CompareSettings, ReportSettings
from her2pipe.endpoints.base import ENCODERS_COMPARED
from her2pipe.evaluation import method_table, results
from her2pipe.evaluation.encoders import costs, friedman_test, ranking
from her2pipe.files import read_table, write_table
from her2pipe.manifest import Item
from her2pipe.models.description import ModelDescription, ParameterCount
from her2pipe.reporting import html
from her2pipe.reporting.comparison import _non_commercial
from her2pipe.reporting.disclosure.citations import cited_works
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.networks import Encoders

AREAS = {  # of four methods on three cohorts
    "a+linear_probe": {"B": 0.8, "C": 0.7, "D": 0.9},
    "a+clam": {"B": 0.6, "C": 0.7, "D": 0.8},
    "b+linear_probe": {"B": 0.7, "C": 0.9, "D": 0.7},
    "b+clam": {"B": 0.5, "C": 0.6, "D": 0.6},
}
# Ranks by hand: B 1 3 2 4; C 2.5 2.5 1 4; D 1 2 3 4.
MEANS = {"a+linear_probe": 4.5 / 3, "a+clam": 2.5, "b+linear_probe": 2, "b+clam": 4}


def test_ranks_by_hand():
    ranked = ranking(AREAS)
    assert ranked.ranks == [[1, 2.5, 1], [3, 2.5, 2], [2, 1, 3], [4, 4, 4]]
    assert {name: ranked.mean(name) for name in AREAS} == pytest.approx(MEANS)


def test_only_methods_that_score_every_cohort_are_ranked():
    ranked = ranking({**AREAS, "a+clam": {"B": 0.6}})
    assert (ranked.cohorts, ranked.mean("a+clam")) == (["B", "C", "D"], None)
    assert ranked.ranks == [[1, 2, 1], [2, 1, 2], [3, 3, 3]]
    assert ranking({"a+clam": {}}).methods == []


def test_friedman_by_hand():
    """chi2 = 12 / (n k (k + 1)) sum R_j^2 - 3 n (k + 1), without ties; scipy divides by ties."""
    areas = {
        name: {**each, "C": each["C"] + 0.01 * i} for i, (name, each) in enumerate(AREAS.items())
    }
    sums = np.array(ranking(areas).ranks).sum(1)
    assert sums.tolist() == [5, 7, 6, 12]
    row = friedman_test(areas, 3)
    assert row["statistic"] == pytest.approx(12 / (3 * 4 * 5) * (sums**2).sum() - 3 * 3 * 5)
    assert (row["methods"], row["cohorts"]) == (4, 3)
    assert row["note"].startswith("n = 3 cohorts")


def test_few_methods_or_cohorts_are_not_tested():
    assert "n = 3 cohorts, fewer than 4" in friedman_test(AREAS, 4)["note"]
    assert (
        "fewer than three methods"
        in friedman_test({k: AREAS[k] for k in list(AREAS)[:2]}, 2)["note"]
    )
    equal = {name: dict.fromkeys("BCD", 0.5) for name in "xyz"}
    assert "all AUCs are equal" in friedman_test(equal, 3)["note"]


def encodings(folder, seconds):
    folder.mkdir(parents=True)
    rows = [
        {"slide": slide, "patches": patches, "seconds": s, "patches_per_s": 1}
        for slide, patches, s in seconds
    ]
    for slide, *_ in seconds:
        (folder / f"{slide}.h5").write_bytes(b"x" * 2_000_000)
    write_table(folder / "timings.tsv", ("slide", "patches", "seconds", "patches_per_s"), rows)
    return folder


def test_costs_are_per_slide_and_of_packs_per_image(tmp_path):
    slides = encodings(tmp_path / "s", [("S1", 30, 3.0), ("S2", 10, 1.0), ("none", 0, 9.0)])
    assert costs([slides], {"S1", "S2", "none"}) == {
        **{"slides": 2, "seconds_per_slide": 2.0, "mb_per_slide": 2.0},
    }
    packs = encodings(tmp_path / "p", [("1of2", 100, 5.0), ("2of2", 100, 15.0)])
    assert costs([packs], {"image-1"}) == {
        **{"slides": 200, "seconds_per_slide": 0.1, "mb_per_slide": 0.02},
    }
    assert costs([], set()) == {"slides": 0}


def write_tables(folder, evaluations, train=(), timed=()):
    """Write the tables that tell of encoders, as `compare` does; the others take their time."""
    study = method_table.Study(
        [results.read(path) for path in evaluations],
        CompareSettings(),
        encoders={path.name: str(path) for path in train},
        encodings=[(name, str(path)) for name, path in timed],
    )
    folder.mkdir()
    method_table.load_tables()
    for name in (*ENCODERS_COMPARED, "networks"):
        table = method_table.TABLES[name](study)
        assert table.optional
        if table.rows:
            write_table(folder / f"{name}.tsv", table.columns, table.rows)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A study of two encoders under two aggregations, one with weights for non-commercial use."""
    folder, evaluations = tmp_path_factory.mktemp("encoders"), []
    for method, areas in AREAS.items():
        encoder, _, aggregation = method.partition("+")
        for cohort, auc in areas.items():
            place = folder / method / cohort
            place.mkdir(parents=True)
            area = {"n": 20, "value": auc, "low": 0.3, "high": 0.95, "variance": 0.01}
            metrics = {
                "method": method, "encoder": encoder, "aggregation": aggregation, "features": 9,
                "cohort": cohort, "role": "external", "slides": 2, "auc": area,
            }  # fmt: skip
            (place / "metrics.json").write_text(json.dumps(metrics))
            columns = ("slide", "score", "positive", "pcr", "used", "patient", "exclusion_reason")
            values = [
                (f"{cohort}{i}", 0.1 * i, i > 0, None, True, f"{cohort}{i}", "") for i in (0, 1)
            ]
            rows = [dict(zip(columns, slide, strict=True)) for slide in values]
            write_table(place / "slides.tsv", columns, rows)
            evaluations.append(place)
    train = []
    for name, values in {
        "a": {
            **{"licence": "CC-BY-NC-ND-4.0", "non_commercial": True, "preset": "uni"},
            **{"mmacs": 61.5, "citation": "arXiv:1234.5678"},
        },
        "b": {"licence": "Apache-2.0", "start": {"weights": "imagenet"}},
    }.items():
        (folder / "train" / name).mkdir(parents=True)
        ModelDescription(
            architecture="vit", input_px=224, parameters=ParameterCount(trainable=0, total=1000),
            **values,
        ).write(folder / "train" / name)  # fmt: skip
        train.append(folder / "train" / name)
    timed = [
        (name, encodings(folder / "encode" / name, [("B0", 10, t), ("B1", 10, t)]))
        for name, t in (("a", 4.0), ("b", 0.5))
    ]
    write_tables(folder / "compare", evaluations, train, timed)
    items = [Item("compare", path=str(folder / "compare"))]
    items += [Item("train", encoder=path.name, path=str(path)) for path in train]
    items += [Item("evaluate", path=str(path)) for path in evaluations]
    write_manifest(folder / "report.tsv", items)
    return folder


def test_tables_of_encoders(compared):
    rows = {row["method"]: row for row in read_table(compared / "compare" / "encoders.tsv")}
    assert list(rows) == list(AREAS)
    assert {m: float(row["mean_rank"]) for m, row in rows.items()} == pytest.approx(MEANS)
    one = rows["a+clam"]
    assert float(one["external_mean"]) == pytest.approx(0.7)
    assert float(one["external_sd"]) == pytest.approx(np.std([0.6, 0.7, 0.8]), abs=1e-5)
    keys = ("preset", "licence", "non_commercial", "parameters")
    assert [one[key] for key in keys] == ["uni", "CC-BY-NC-ND-4.0", "yes", "1000"]
    assert [float(one[key]) for key in ("mmacs", "seconds_per_slide")] == [61.5, 4.0]
    assert float(rows["b+clam"]["mb_per_slide"]) == 2.0
    ranks = {
        (r["method"], r["cohort"]): r["rank"] for r in read_table(compared / "compare/ranks.tsv")
    }
    assert (float(ranks["b+linear_probe", "C"]), float(ranks["a+clam", "C"])) == (1.0, 2.5)
    (test,) = read_table(compared / "compare" / "friedman.tsv")
    assert (test["compared"], test["cohorts"]) == ("all methods", "3")
    networks = read_table(compared / "compare" / "networks.tsv")
    assert networks[0]["licence"] == "CC-BY-NC-ND-4.0"


def test_the_page_compares_encoders_and_names_licences(compared):
    inputs = ReportInputs.read(compared / "report.tsv", None, ReportSettings())
    blocks = Encoders().blocks(inputs)
    tables = [block for block in blocks if isinstance(block, html.Table)]
    by_aggregation, ranks, test = tables
    cells = [[cell.text for cell in row] for row in by_aggregation.rows]
    assert [column["title"] for column in by_aggregation.head] == [
        "Encoder",
        "linear_probe",
        "clam",
    ]
    assert cells[0] == ["a", "0.800\u00a0±\u00a00.082", "0.700\u00a0±\u00a00.082"]
    assert ranks.rows[0][0].text == "a+linear_probe"
    assert "n = 3 cohorts" in test.rows[0][-1].text
    works = {work.doi: work for work in cited_works(inputs)}
    assert works["10.48550/arXiv.1234.5678"].who == "UNI"
    assert "10.1080/01621459.1937.10503522" in works
    (warning,) = _non_commercial(inputs)
    assert "a (CC-BY-NC-ND-4.0), in a+linear_probe, a+clam." in warning.text


def test_one_encoder_for_each_aggregation_is_no_comparison(compared):
    write_tables(compared / "two", [compared / "a+clam" / "B", compared / "b+linear_probe" / "B"])
    assert not list((compared / "two").iterdir())
    items = [Item("compare", path=str(compared / "two"))]
    inputs = ReportInputs.read(write_manifest(compared / "r.tsv", items), None, ReportSettings())
    assert Encoders().blocks(inputs) == []
