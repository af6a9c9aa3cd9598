"""Tables and captions of an evaluation: every number is there, notes stand in place of others."""

from dataclasses import replace

import pytest

from her2pipe.config import LabelSettings, ReportSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.evaluation.results import Evaluation, Metrics
from her2pipe.manifest import Item, Manifest
from her2pipe.reporting import captions, comparison, results
from her2pipe.reporting.disclosure import citations
from her2pipe.reporting.inputs import ReportInputs, Study
from her2pipe.reporting.methods import matrix, primary, summary

LABELS = LabelSettings(endpoint="class", classes=["1+", "2+"])


def inputs_of(*evaluations, **settings):
    study = Study(settings=settings)
    return ReportInputs(study, Manifest(), ReportSettings(), [], list(evaluations))


def evaluation(method="m", cohort="B", role="external", folder=None, **parts):
    metrics = Metrics.model_validate(
        {"method": method, "cohort": cohort, "role": role, "endpoint": "her2", **parts}
    )
    return Evaluation(metrics, [], [], folder)


def of_classes(**parts):
    return evaluation(**({"endpoint": "class", "classes": LABELS.classes} | parts))


def test_notes_stand_in_place_of_numbers():
    metrics = evaluation(
        role="treatment",
        pcr={"n": 2, "note": "needs 3 slides", "rank_sum_note": "needs both"},
        patch={"note": "no patches"},
        levels={
            "n": 2,
            "groups": {},
            "spearman": {"note": "needs values that differ"},
            "dunn_note": "needs 2 groups",
        },
    ).metrics
    contrast = endpoint_of(role="treatment").contrast
    rows = {row["measure"]: row["note"] for row in results.main_rows(metrics, contrast)}
    assert rows == {
        "AUC, non-pCR against pCR": "needs 3 slides",
        "Score of non-pCR against pCR": "needs both",
        "AUC of patches, HER2 status": "no patches",
        "Spearman's ρ of score and HER2 level": "needs values that differ",
        "Dunn's test, HER2 level": "needs 2 groups",
    }


def test_numbers_of_slides_that_chose_something_are_warned_of(tmp_path):
    def warned(*evaluations):
        (tmp_path / "compare").mkdir(exist_ok=True)
        manifest = Manifest((Item("compare", path=str(tmp_path / "compare")),))
        inputs = replace(inputs_of(*evaluations), manifest=manifest)
        return [w for b in comparison.Methods().blocks(inputs) for w in getattr(b, "warnings", ())]

    chosen = {"role": "development", "cohort": "A", "chosen_on_these": "threshold"}
    assert warned(evaluation(), evaluation("n", "A", "development")) == []
    assert warned(evaluation("m", **chosen), evaluation("n", **chosen), evaluation()) == [
        "m, n: threshold chosen on the internal validation slides of cohort A."
    ]


def test_notes_stand_in_place_of_numbers_of_classes(tmp_path):
    one = {"n": 2, "auc": {"note": "needs both"}, "sensitivity": {}, "specificity": {}}
    macro = {"note": "needs both classes"}
    units = {"slide": {"n": 2, "macro_auc": macro, "per_class": {"1+": one}}}
    (tmp_path / "roc.svg").write_text("<svg/>")
    each = of_classes(units=units, folder=tmp_path)
    inputs = inputs_of(each)
    cells = [[cell.text for cell in row] for row in results.units(each, inputs).rows]
    assert ["Macro-AUC", "needs both classes"] in cells
    assert results.per_class(each, inputs).rows[0][2].text == "needs both"
    assert results.reflex(each, inputs) is results.subgroups(each, inputs) is None
    (figure,) = captions.figures(each, inputs)
    assert "No macro-AUC: needs both classes." in figure.caption


AUPRC = {"value": 0.4, "low": 0.2, "high": 0.7, "interval": "resampled patients"}
AUPRC |= {"n": 20, "positives": 4, "prevalence": 0.2}
DECISION = {"n": 20, "brier": 0.1, "brier_baseline": 0.16, "prevalence": 0.2, "fitted_on": 8}


def rows_of(**parts):
    metrics = evaluation(**parts).metrics
    contrast = endpoint_of(role=metrics.role).contrast
    return {row["measure"]: row for row in results.main_rows(metrics, contrast)}


def test_the_area_under_precision_and_recall_stands_beside_its_baseline():
    row = rows_of(auprc=AUPRC)["AUPRC, HER2-positive against HER2-negative"]
    assert (row["value"], row["low"], row["how"]) == (0.4, 0.2, "resampled patients")
    assert row["note"] == "prevalence: 0.200"
    rows = rows_of(role="treatment", auprc=AUPRC, pcr={"n": 9, "auprc": AUPRC, "dunn_p": 0.01})
    assert "AUPRC, non-pCR against pCR" in rows
    assert "AUPRC, HER2-positive against HER2-negative" not in rows
    assert rows["Score of non-pCR against pCR"]["p"] == 0.01
    sentences = captions.sentences_of("auprc", "auprc", evaluation(auprc=AUPRC).metrics, "95 %")
    assert sentences[0].endswith("interval over resampled patients; n = 20, 4 positive.")


def test_net_benefit_says_where_or_why_not():
    useful = DECISION | {"useful_from": 0.1, "useful_to": 0.4, "same_slides": True}
    rows = rows_of(decision=useful)
    assert rows["Brier score, recalibrated"]["value"] == 0.1
    note = rows["Net benefit, recalibrated"]["note"]
    assert note.startswith("above treating all or none at thresholds within 0.1 to 0.4; on the")
    rows = rows_of(decision=DECISION)
    note = rows["Net benefit, recalibrated"]["note"]
    assert note == "at no threshold above treating all or none"
    rows = rows_of(decision={"note": "not applicable: no fit"})
    assert rows["Net benefit, Brier score"]["note"] == "not applicable: no fit"
    metrics = evaluation(decision=useful).metrics
    sentences = captions.sentences_of("decision", "decision", metrics, "95 %")
    assert sentences[-1] == "They are the slides of the fit, which flatters it."


def test_every_number_is_somewhere():
    rows = list(results.flatten({"a": {"b": 0.5, "c": [1, 2]}, "d": [{"e": None}], "f": "x"}))
    assert [tuple(row.values()) for row in rows] == [
        ("a.b", "0.5"),
        ("a.c", "1, 2"),
        ("d.1.e", ""),
        ("f", "x"),
    ]


def test_every_statistic_and_table_of_an_endpoint_exists():
    for endpoint in (endpoint_of(), endpoint_of(role="treatment"), endpoint_of(LABELS)):
        assert {c.statistic for c in endpoint.figure_captions} <= set(captions.STATISTICS.names())
        assert set(endpoint.result_tables) <= set(results.RESULT_TABLES.names())


@pytest.mark.parametrize(
    ("areas", "best", "sentence"),
    [
        ((0.9, 0.6, 0.8, 0.95), "a", "On cohort B the highest is that of b, 0.950"),
        ((None, 0.6, None, 0.95), "b", "looks better than it is"),  # nothing else is known
    ],
)
def test_the_best_is_not_chosen_on_the_slides_whose_numbers_are_reported(areas, best, sentence):
    cohorts = (("A", "development"), ("B", "external")) * 2
    evaluations = [
        of_classes(method=method, cohort=cohort, role=role, auc={"value": area, "n": 9})
        for method, (cohort, role), area in zip("aabb", cohorts, areas, strict=True)
    ]
    method, sentences = primary.primary_method(inputs_of(*evaluations))
    assert method == best
    assert sentence in " ".join(sentences)


def test_of_her2_status_the_first_method_is_summarised():
    evaluations = [evaluation(method=m, auc={"value": v}) for m, v in (("a", 0.5), ("b", 0.9))]
    assert primary.primary_method(inputs_of(*evaluations))[0] == "a"


def test_stand_ins_are_marked_and_explained(tmp_path):
    rows = ["method\tstand_in\tpublished_note", "m\t\t", "Valieris\tone in place of another\tof M6"]
    (tmp_path / "table2.tsv").write_text("\n".join(rows) + "\n")
    (table,) = comparison._tables(tmp_path, "95 %")
    assert "ᵃ Stand-in, not the published method: one in place of another. ᵇ Of M6." in str(table)
    assert "Valieris ᵃ" in str(table)


def test_choices_that_no_paper_states_are_listed_with_value_and_default():
    settings = {
        "stain": {"stain_sparsity": 0.1, "macenko_beta": 0.15},
        "encoders": {
            "one": {"task": "classify", "jitter": 0.05, "batch_size": 128},
            "two": {"task": "density", "jitter": 0.0},
            "frozen": {"task": "none", "jitter": 0.9},
        },
        "methods": {"CLAM": {"aggregate": "clam", "fit": {"subtyping": True, "bag_weight": 0.7}}},
    }
    rows = citations.choices(settings)
    assert [(row["setting"], row["value"], row["default"]) for row in rows] == [
        ("stain.stain_sparsity", "0.1", "0.02"),
        ("train.jitter", "0.05 (one); 0.0 (two)", "0.05"),
        ("fit.subtyping", "true", "true"),
    ]
    assert "[choice" not in str(rows)
    page = str(citations.Settings().blocks(inputs_of(**settings)))
    assert "Settings that no paper states" in page


def test_an_exact_interval_says_why_in_the_tables_and_captions():
    """The main row, the summary and the caption of the ROC curve: never a bare 1.000 to 1.000."""
    note = "the scores separate the classes: the interval is exact, of 2 pairs of slides"
    exact = {"interval": "exact (Clopper-Pearson)", "interval_note": note}
    area = {"n": 4, "patients": 4, "positives": 2, "value": 1.0, "low": 0.158, "high": 1.0}
    each = evaluation(auc=area | {"logit_low": 0.158, "logit_high": 1.0} | exact)
    (row,) = results.main_rows(each.metrics, endpoint_of().contrast)
    assert (row["low"], row["how"], row["note"]) == (0.158, "exact (Clopper-Pearson)", note)
    row_of_summary = summary._main_row(inputs_of(each), each)
    assert row_of_summary["low"] == 0.158
    assert (row_of_summary["interval"], row_of_summary["note"]) == (row["how"], note)
    first, second = captions.sentences_of("area", "auc", each.metrics, "95 %")
    assert first.startswith("AUC 1.000 (0.158 to 1.000), 95 % interval (exact (Clopper-Pearson))")
    assert second == f"T{note[1:]}."


def test_the_logit_interval_stands_beside_walds():
    area = {"n": 35, "patients": 30, "positives": 8, "value": 0.9, "low": 0.79, "high": 1.0}
    area |= {"logit_low": 0.72, "logit_high": 0.97, "interval": "Obuchowski, by patient"}
    metrics = evaluation(auc=area).metrics
    wald, logit = results.main_rows(metrics, endpoint_of().contrast)
    assert (wald["how"], logit["how"]) == ("Obuchowski, by patient", "logit of the AUC")
    assert (logit["low"], logit["high"]) == (0.72, 0.97)
    (sentence,) = captions.sentences_of("area", "auc", metrics, "95 %")
    assert "by its logit 0.720 to 0.970; n = 35 slides, 8 positive, of 30 patients." in sentence


AREA = {"n": 40, "patients": 38, "positives": 15, "value": 0.8, "low": 0.7, "high": 0.9}


def test_the_result_is_a_sentence_with_interval_n_and_events():
    two = [evaluation(cohort=c, auc=AREA | {"variance": 0.0026}) for c in ("B", "C")]
    (inputs,) = [inputs_of(*two)]
    assert summary.result_sentence(two[:1], inputs) == (
        "External AUC of m for HER2-positive against HER2-negative: 0.800 (0.700 to 0.900), 95 % "
        "interval, on cohort B; n = 40 slides of 38 patients, 15 of them HER2-positive."
    )
    sentence = summary.result_sentence(two, inputs)
    assert "0.800 (0.729 to 0.871), 95 % interval, the mean over 2 cohorts (B, C)" in sentence
    assert "n = 80 slides of 76 patients, 30 of them HER2-positive." in sentence
    internal = evaluation(role="development", auc=AREA)
    assert summary.result_sentence([internal], inputs).startswith("Internal AUC of m")
    none = evaluation(auc={"note": "needs both classes"})
    assert "not defined (cohort B: needs both classes)" in summary.result_sentence([none], inputs)


def test_the_named_method_is_the_primary_one():
    evaluations = [evaluation(method=m, auc={"value": v}) for m, v in (("a", 0.9), ("b", 0.5))]
    inputs = replace(inputs_of(*evaluations), settings=ReportSettings(primary="b"))
    assert primary.primary_method(inputs)[0] == "b"


def test_the_matrix_groups_methods_and_keeps_every_number():
    evaluations = [
        evaluation(f"{e}+{a}", c, "external", encoder=e, aggregation=a, auc=AREA)
        for e in ("x", "y", "z")
        for a in ("clam", "mean")
        for c in ("B", "C")
    ]
    table = matrix.matrix(inputs_of(*evaluations))
    assert [name for name, _ in table.parts] == ["clam", "mean"]
    assert [column["title"] for column in table.head][-2:] == ["B, n = 40", "C, n = 40"]
    cell = table.rows[0][-1]
    assert (cell.text, cell.sort) == ("0.80 (0.70\u2060\u2013\u20600.90)", "0.8")
    assert cell.drawing.count("<circle") == 1
    assert "0.7" in table.tsv


def test_limits_of_the_result_are_stated():
    few = evaluation(cohort="B", auc=AREA | {"n": 18}, slides=20, evaluated=20)
    limits = " ".join(summary._limits([few], inputs_of(few)))
    assert "of the AUC, fewer than 5 (report.min_n): cohort B (15 positive, 3 negative)." in limits
    assert "Scored slides whose label is not known: cohort B (2 slides)." in limits
    alone = evaluation(role="development", auc=AREA)
    assert "no external cohort" in " ".join(summary._limits([alone], inputs_of(alone)))
