"""Every number agrees: in sentences, tables of the page, TSV files, metrics.json and slides.tsv."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from her2pipe.config import CompareSettings, EvaluateSettings, ReportSettings
from her2pipe.endpoints.her2_status import Her2Status
from her2pipe.evaluation import method_table, metrics
from her2pipe.evaluation.metrics import Cohort
from her2pipe.evaluation.results import TRAINING_SLIDE, Metrics, Slide, read
from her2pipe.evaluation.write import write_evaluation
from her2pipe.files import read_table, write_table
from her2pipe.manifest import Item, Manifest
from her2pipe.reporting import flowchart, html, results
from her2pipe.reporting.inputs import ReportInputs, Study, StudyCohort
from her2pipe.reporting.methods import matrix, summary

METHODS, ROLES = ("x+clam", "y+clam"), {"A": "development", "B": "external", "C": "external"}
LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")


def slides(method, cohort, n=31):
    """Slides of a cohort: some train, one has no label, patients have up to two."""
    random = np.random.default_rng([METHODS.index(method), ord(cohort)])
    rows = []
    for i in range(n):
        level = i % 5
        trains = cohort == "A" and i % 3 == 0
        rows.append(
            Slide(
                slide=f"{cohort}{i}",
                patient=f"{cohort}{i // 2}",
                score=round(float(np.clip(random.normal(0.3 + level / 10, 0.2), 0, 1)), 3),
                positive=None if i == 7 else level > 2,
                true_level=None if i == 7 else LEVELS[level],
                subgroups={"er": ("negative", "positive")[i % 2]},
                used=not trains,
                exclusion_reason=TRAINING_SLIDE if trains else "",
            )
        )
    return rows


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two methods on three cohorts, evaluated and compared as the steps do, without figures."""
    folder, items = tmp_path_factory.mktemp("numbers"), []
    settings = EvaluateSettings(resamples=100, subgroups=["er"])
    for method, cohort in itertools.product(METHODS, ROLES):
        rows, development = slides(method, cohort), slides(method, "A")
        used = [row for row in rows if row.used]
        computed = metrics.compute(Cohort(Her2Status(), used, settings, development))
        computed.figures = {}
        encoder, aggregation = method.split("+")
        named = {"method": method, "encoder": encoder, "aggregation": aggregation}
        sizes = {"slides": len(rows), "patients": 16, "evaluated": len(used)}
        of = {"cohort": cohort, "role": ROLES[cohort]}
        path = folder / method / cohort
        path.mkdir(parents=True)
        written = Metrics(**named, **of, **sizes, **computed.parts)
        write_evaluation(path, Her2Status(), rows, written, computed)
        items.append(Item("evaluate", method, encoder, cohort=cohort, path=str(path)))
    compared = folder / "compare"
    compared.mkdir()
    evaluations = [read(item.path) for item in items]
    study = method_table.Study(evaluations, CompareSettings())
    method_table.load_tables()
    for name in ("methods", "table2"):
        table = method_table.TABLES[name](study)
        write_table(compared / f"{name}.tsv", table.columns, table.rows)
    items.append(Item("compare", path=str(compared)))
    ledger = [
        {"slide": row["slide"], "patient": row["patient"], "cohort": cohort, "status": "scored"}
        | {"reason": ""}
        for cohort in ROLES
        for row in next(e for e in evaluations if e.cohort == cohort).table
    ]
    cohorts = {name: StudyCohort(role=role) for name, role in ROLES.items()}
    manifest = Manifest(tuple(items))
    return ReportInputs(Study(cohorts=cohorts), manifest, ReportSettings(), ledger, evaluations)


def rows_of(table):
    """The rows that a reader takes away from a table of the page."""
    return list(csv.DictReader(io.StringIO(table.tsv), delimiter="\t"))


def compared(inputs, stem):
    return read_table(f"{inputs.manifest.paths('compare')[0]}/{stem}.tsv")


def floats(value):
    """Every number of a file, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from floats(inner)
    elif isinstance(value, (int, float)):
        yield value


def number(text):
    return None if text in ("", None) else pytest.approx(float(text), abs=1e-6)


def test_the_area_is_that_of_the_slides_in_the_table(inputs):
    """Recomputed by another program from slides.tsv."""
    for each in inputs.evaluations:
        known = [r for r in each.table if r["used"] == "True" and r["positive"]]
        y = [row["positive"] == "True" for row in known]
        area = each.metrics.auc
        assert (area.n, area.positives) == (len(known), sum(y))
        assert area.patients == len({row["patient"] for row in known})
        assert area.value == pytest.approx(roc_auc_score(y, [float(r["score"]) for r in known]))


def test_tables_of_all_methods_hold_the_numbers_of_each(inputs):
    """methods.tsv, the matrix and what it can be taken away as."""
    listed = {(row["method"], row["cohort"]): row for row in compared(inputs, "methods")}
    table = matrix.matrix(inputs)
    taken = {row["method"]: row for row in rows_of(table)}
    for each in inputs.evaluations:
        area, row = each.metrics.main(), listed[each.method, each.cohort]
        assert [area.value, area.low, area.high] == [number(row[k]) for k in ("auc", "low", "high")]
        assert int(row["n"]) == area.n
        keys = (each.cohort, f"{each.cohort}_low", f"{each.cohort}_high")
        assert [area.value, area.low, area.high] == [number(taken[each.method][k]) for k in keys]
        assert any(f"{each.cohort}, n = {area.n}" == column["title"] for column in table.head)


def test_the_mean_is_one_number_everywhere(inputs):
    """table2.tsv, the matrix, and the sentence that the page opens with."""
    evaluations = [e for e in inputs.evaluations if e.method == METHODS[0]]
    sentence = summary.result_sentence(evaluations, inputs)
    row = next(r for r in compared(inputs, "table2") if r["method"] == METHODS[0])
    taken = rows_of(matrix.matrix(inputs))[0]
    for key in ("external_mean", "external_low", "external_high"):
        assert float(taken[key]) == number(row[key])
        assert html.format_number(row[key]) in sentence
    areas = [e.metrics.auc for e in evaluations if e.role == "external"]
    assert f"n = {sum(a.n for a in areas)} slides of {sum(a.patients for a in areas)}" in sentence
    assert f"{sum(a.positives for a in areas)} of them HER2-positive" in sentence


def test_numbers_of_a_method_are_those_of_its_file(inputs):
    """Every value, end and P of the table of main numbers is in metrics.json."""
    for each in inputs.evaluations:
        file = json.loads((each.folder / "metrics.json").read_text())
        values = list(floats(file))
        for row in rows_of(results.numbers(each, inputs)):
            for key in ("value", "low", "high", "p", "n"):
                if text := row.get(key):
                    assert any(number(text) == value for value in values), (row, key)


def test_calls_add_up(inputs):
    """The two-by-two table: its sums are the sizes of what is made of them, and of the flow."""
    for each in inputs.evaluations:
        point, area = each.metrics.operating_point, each.metrics.auc
        tp, fp, tn, fn = point.counts.model_dump().values()
        assert tp + fp + tn + fn == point.n == area.n
        assert (point.sensitivity.n, point.specificity.n) == (tp + fn, fp + tn)
        assert (point.ppv.n, point.npv.n) == (tp + fp, tn + fn)
        assert (tp + fn, fp + tn) == (area.positives, area.n - area.positives)
        assert point.sensitivity.value == pytest.approx(tp / (tp + fn))
        flow = flowchart.flow_of(inputs, each.cohort)
        assert flow.evaluated.total() == flow.methods[each.method] == area.n
        assert flow.patients_in("evaluated") == area.patients
        bins = each.metrics.calibration.recalibrated.n
        assert sum(bins) == each.metrics.calibration.n == each.metrics.decision.n == area.n
