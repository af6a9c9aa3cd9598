"""Section "Cohorts and slides": who the slides are, and where every one of them went."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from her2pipe.cohorts import sheet
from her2pipe.cohorts.labels import RCB_CLASSES
from her2pipe.cohorts.sheet import Row
from her2pipe.endpoints.base import Endpoint
from her2pipe.errors import Her2Error
from her2pipe.evaluation.results import TRAINING_SLIDE, VALIDATION_SLIDE
from her2pipe.reporting import html
from her2pipe.reporting.html import NONE, Block, Column, Custom, Table, Text, format_number
from her2pipe.reporting.inputs import ROLES, ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from her2pipe.plotting.flow import FlowBox

SHEET_COLUMNS = ("patient", "positive", "level", "er", "pr", "pcr", "rcb", "scanner")
FLOW_TABLE = (
    Column("name", "Cohort"),
    Column("title", "Source"),
    Column("role", "Role"),
    Column("patients", "Patients", "count"),
    Column("slides", "Slides", "count"),
    Column("excluded", "Excluded", "count"),
    Column("training", "Training", "count"),
    Column("unknown", "Label not known", "count"),
    Column("evaluated", "Evaluated", "count"),
)
SIGN = {True: "positive", False: "negative", None: None}
PCR = {True: "pCR", False: "non-pCR", None: None}


@dataclass
class Flow:
    """Slides of a cohort from the sheet to the statistics, by reason or group.

    Every slide is in one of `excluded`, `training`, `unknown` (label not known) and `evaluated`.
    """

    name: str
    title: str = ""
    role: str = ""
    endpoint: str = ""
    patients: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    training: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)
    patients_by_stage: dict[str, set[str]] = field(default_factory=dict)
    methods: dict[str, int] = field(default_factory=dict)  # method to its slides with a label

    def count(self, stage: str, reason: str, patient: str) -> None:
        """Count a slide of a patient in a stage, by reason or group."""
        getattr(self, stage)[reason] += 1
        self.patients_by_stage.setdefault(stage, set()).add(patient)

    def patients_in(self, *stages: str) -> int:
        """Return the number of patients who have a slide in any of the stages."""
        return len(set().union(*(self.patients_by_stage.get(stage, set()) for stage in stages)))

    @property
    def slides(self) -> int:
        """Number of slides of the sheet."""
        return self.scored + self.excluded.total()

    @property
    def scored(self) -> int:
        """Number of slides that are not excluded."""
        return self.training.total() + self.unknown.total() + self.evaluated.total()

    def counts(self) -> dict[str, Any]:
        """Return the flow as a row of a table."""
        totals = {k: v.total() for k, v in vars(self).items() if isinstance(v, Counter)}
        return vars(self) | totals | {"slides": self.slides}


@SECTIONS.register("cohorts")
class Cohorts(Section):
    """Description of the cohorts, flow chart and exclusion table."""

    title = "Cohorts and slides"
    place = 20

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the table of cohorts, the flow of their slides, and the exclusion table."""
        flows = [flow_of(inputs, name) for name in inputs.cohorts]
        caption = (
            "Flow of the slides of each cohort from sheet to statistics. Boxes with a dashed edge "
            "leave the flow. A slide is excluded when one of the methods could not score it. The "
            "files, flow.svg and flow.pdf beside this page, count patients, too, and go down to "
            "each method's analysis."
        )
        blocks: list[Block] = [table] if (table := cohort_table(inputs)) else []
        blocks.append(Custom("flow_chart", {"flows": flows, "caption": caption}))
        blocks.append(
            html.table(
                "Every slide of every sheet, once: slides = excluded + training + label not known "
                "+ evaluated.",
                FLOW_TABLE,
                [flow.counts() for flow in flows],
                id=html.table_id("flow"),
            )
        )
        blocks += shared_patients(inputs.ledger)
        return [*blocks, exclusion_table(inputs.ledger)]


def flow_of(inputs: ReportInputs, cohort: str) -> Flow:
    """Count the slides of a cohort, by the primary method or else the first that evaluated it."""
    evaluations = list(inputs.of_cohort(cohort))
    evaluation = next((e for e in evaluations if e.method == inputs.settings.primary), None)
    evaluation = evaluation or next(iter(evaluations), None)
    named = inputs.study.cohorts.get(cohort)
    role = evaluation.metrics.role if evaluation else ""
    role = named.role if named and named.role else role
    flow = Flow(cohort, named.title if named else "", role)
    flow.methods = {e.method: e.metrics.main().n or 0 for e in evaluations}
    return flow_counts(
        flow,
        [row for row in inputs.ledger if row["cohort"] == cohort],
        evaluation.table if evaluation else [],
        inputs.endpoint(role),
    )


def flow_counts(
    flow: Flow,
    ledger: Sequence[Mapping[str, str]],
    slides: Sequence[Mapping[str, str]],
    endpoint: Endpoint,
) -> Flow:
    """Follow the slides of a cohort from the sheet to the statistics.

    Parameters
    ----------
    flow : Flow
        Of a cohort whose slides are not counted yet.
    ledger : list of dict
        Its rows of the ledger: slide, patient, status, reason.
    slides : list of dict
        Its slides as `evaluate` left them; empty when it was not evaluated.
    endpoint : Endpoint

    Raises
    ------
    Her2Error
        When ledger and evaluation are not of the same slides.
    """
    by_slide = {row["slide"]: row for row in slides}
    if slides and set(by_slide) != {row["slide"] for row in ledger}:
        raise Her2Error(
            f"the ledger and the evaluation of cohort {flow.name} hold different slides",
            "the ledger and the evaluation folders",
            "run the workflow again",
        )
    is_applied = flow.role == "apply"
    flow.role = ROLES.get(flow.role, flow.role)
    flow.endpoint = endpoint.target_label
    flow.patients = len({row["patient"] for row in ledger})
    for name in endpoint.group_labels:
        flow.evaluated[name] = 0
    for row in ledger:
        slide = by_slide.get(row["slide"])
        if row["status"] == "excluded":
            stage, reason = "excluded", row["reason"].split(":")[0] or "no reason given"
        elif slide is None:
            stage, reason = "unknown", "not evaluated"
        elif slide["exclusion_reason"] in (TRAINING_SLIDE, VALIDATION_SLIDE):
            stage, reason = "training", slide["exclusion_reason"]
        elif group := endpoint.group_label(slide):
            stage, reason = "evaluated", group
        elif is_applied:
            stage, reason = "unknown", "no label, which none needs"
        else:
            stage, reason = "unknown", endpoint.unknown_reason(slide)
        flow.count(stage, reason, row["patient"])
    return flow


def draw(inputs: ReportInputs) -> Figure:
    """Draw the flow of slides and patients of every cohort, down to each method's analysis."""
    from her2pipe.plotting.flow import flow

    return flow([_boxes(flow_of(inputs, name)) for name in inputs.cohorts])


def _boxes(flow: Flow) -> list[FlowBox]:
    """Return the boxes of a cohort: assessed, excluded, split, analysed, by slides and patients."""
    from her2pipe.plotting.flow import FlowBox

    def sizes(slides: int, patients: int) -> str:
        return f"{html.count_of(slides, 'slide')}, {html.count_of(patients, 'patient')}"

    def listed(counts: Counter[str]) -> list[str]:
        return [f"{n:,} {reason}" for reason, n in sorted(counts.items()) if n]

    described = ", ".join(filter(None, (flow.title, flow.role)))
    assessed = sizes(flow.slides, flow.patients)
    boxes = [
        FlowBox(list(filter(None, [f"Cohort {flow.name}", described, f"Assessed: {assessed}"])))
    ]
    stages = (
        ("excluded", "Excluded, not scored"),
        ("training", "Split: not evaluated"),
        ("unknown", "Label not known"),
    )
    for stage, title in stages:
        if stage == "training":
            scored = flow.patients_in("training", "unknown", "evaluated")
            boxes.append(FlowBox([f"Scored: {sizes(flow.scored, scored)}"]))
        if total := getattr(flow, stage).total():
            first = f"{title}: {sizes(total, flow.patients_in(stage))}"
            boxes.append(FlowBox([first, *listed(getattr(flow, stage))], leaves=True))
    evaluated = sizes(flow.evaluated.total(), flow.patients_in("evaluated"))
    groups = [f"{n:,} {group}" for group, n in flow.evaluated.items()]
    boxes.append(FlowBox([f"Evaluated for {flow.endpoint}: {evaluated}", *groups]))
    by_size: dict[int, list[str]] = {}
    for method, n in flow.methods.items():
        by_size.setdefault(n, []).append(method)
    lines = [f"{html.count_of(n, 'slide')}: {', '.join(names)}" for n, names in by_size.items()]
    if len(by_size) == 1 and len(flow.methods) > 1:
        lines = [
            f"each of {len(flow.methods)} methods: {html.count_of(next(iter(by_size)), 'slide')}"
        ]
    if lines:
        boxes.append(FlowBox(["Analysed", *lines]))
    return boxes


def exclusion_table(ledger: Sequence[Mapping[str, str]]) -> Block:
    """List every slide that is excluded, or scored with a note."""
    columns = [
        Column(key, key.capitalize()) for key in ("slide", "patient", "cohort", "status", "reason")
    ]
    rows = [row for row in ledger if row["reason"] or row["status"] == "excluded"]
    if not rows:
        return Text("No slide was excluded, and none has a note.")
    return html.fold_long(
        html.table(
            "Slides excluded, and slides scored with a note.",
            columns,
            rows,
            id=html.table_id("exclusions"),
        )
    )


def shared_patients(ledger: Sequence[Mapping[str, str]]) -> list[Block]:
    """State how many patients are in several cohorts, and what that means; nothing if none is."""
    cohorts: dict[str, dict[str, None]] = {}
    for row in ledger:
        cohorts.setdefault(row["patient"], {})[row["cohort"]] = None
    shared = Counter(tuple(names) for names in cohorts.values() if len(names) > 1)
    if not shared:
        return []
    pairs = "; ".join(
        f"cohorts {' and '.join(names)}: {html.count_of(n, 'patient')}"
        for names, n in shared.items()
    )
    return [
        Text(
            f"Patients in several cohorts: {pairs}.",
            [
                "Numbers of these cohorts are not independent of each other. If two centres "
                "number their patients alike, a prefix in the sheets tells them apart."
            ],
        )
    ]


# --- the table of cohorts ------------------------------------------------------------------------


def cohort_table(inputs: ReportInputs) -> Table | None:
    """Lay out the cohorts as columns of a table (Table S1 of Li et al. 2025)."""
    endpoint = inputs.endpoint()
    columns = (*SHEET_COLUMNS, *endpoint.columns)
    paths = {item.cohort: item.path for item in inputs.manifest.select("sheet")}
    sheets = {
        name: sheet.load(paths[name], check_files=False, columns=columns)
        for name in inputs.cohorts
        if name in paths
    }
    if not sheets:
        return None
    caption = (
        "Cohorts (laid out as Table S1 of Li et al. 2025). Labels count all slides of the sheets; "
        "percentages are of the slides whose value is known. Magnification, resolution, size and "
        "patches are of the slides that could be read."
    )
    if note := image_note(inputs.study.settings.get("cohorts", {})):
        caption += f" {note}"
    head = [Column("label", "Characteristic"), *(Column(n, f"Cohort {n}") for n in sheets)]
    rows = describe_cohorts(sheets, inputs.index.scans, endpoint)
    name = html.table_id("cohorts")
    return html.table(caption, head, rows, sortable=False, group="group", id=name)


def image_note(cohorts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return where, of a study's cohorts as configured, a slide is one image."""
    names = [name for name, settings in cohorts.items() if settings.get("kind") == "images"]
    if not names:
        return ""
    where = "this study" if len(names) == len(cohorts) else f"cohort {', '.join(names)}"
    return f"What is called a slide in {where} is one image, taken whole."


def describe_cohorts(
    sheets: Mapping[str, Sequence[Row]],
    scans: Mapping[str, Sequence[Mapping[str, Any]]],
    endpoint: Endpoint,
) -> list[dict[str, Any]]:
    """Describe cohorts as rows of a table with a column per cohort.

    Parameters
    ----------
    sheets : dict
        Cohort to the rows of its sheet.
    scans : dict
        Cohort to the attributes and number of patches of its slides that could be read.
    endpoint : Endpoint

    Returns
    -------
    list of dict
        group, label, and one text per cohort; groups that no cohort has a value of are left out.
    """

    def shares(group: str, labels: Sequence[str], label_of: Callable) -> list[dict[str, Any]]:
        return _shares(sheets, group, labels, label_of)

    def median(label: str, value_of: Callable, digits: int) -> list[dict[str, Any]]:
        line = {"group": "Scan", "label": f"{label}, median (range)"}
        line |= {c: _spread(map(value_of, scans.get(c, [])), digits) for c in sheets}
        return [line] if any(line[c] != NONE for c in sheets) else []

    scanners = sorted({name for rows in sheets.values() for row in rows if (name := _scanner(row))})
    return [
        {"group": "", "label": "Slides"} | {c: f"{len(rows):,}" for c, rows in sheets.items()},
        {"group": "", "label": "Patients"}
        | {c: f"{len({row.patient for row in rows}):,}" for c, rows in sheets.items()},
        *_magnifications({c: scans.get(c, []) for c in sheets}),
        *median("resolution, µm/px", lambda scan: scan.get("mpp"), 3),
        *median("slide size, megapixels", _megapixels, 1),
        *median("tissue left out at the edge, %", _edge_percent, 1),
        *median("patches scored per slide", lambda scan: scan["patches"], 0),
        *shares("Scanner", scanners, _scanner),
        *(line for each in endpoint.characteristics() for line in shares(*each)),
        *shares("ER", ("positive", "negative"), lambda row: SIGN[row.er]),
        *shares("PR", ("positive", "negative"), lambda row: SIGN[row.pr]),
        *shares("Response", ("pCR", "non-pCR"), lambda row: PCR[row.pcr]),
        *shares("RCB class", RCB_CLASSES, lambda row: row.rcb),
    ]


def _edge_percent(scan: Mapping[str, Any]) -> float | None:
    share = scan.get("edge_tissue")
    return None if share is None else 100 * share


def _shares(
    sheets: Mapping[str, Sequence[Row]], group: str, labels: Sequence[str], label_of: Callable
) -> list[dict[str, Any]]:
    """Return one row per label: how many slides, and their share of the slides that are known."""
    tallies = {c: Counter(map(label_of, rows)) for c, rows in sheets.items()}
    lines: list[dict[str, Any]] = [
        {"group": group, "label": label} for label in (*labels, "not known")
    ]
    for cohort, tally in tallies.items():
        known = sum(tally[label] for label in labels)
        for line in lines[:-1]:
            n = tally[line["label"]]
            line[cohort] = f"{n:,} ({100 * n / known:.0f} %)" if known else NONE
        lines[-1][cohort] = f"{len(sheets[cohort]) - known:,}"
    if not any(tally[label] for tally in tallies.values() for label in labels):
        return []
    missing = any(lines[-1][cohort] != "0" for cohort in sheets)
    return lines if missing else lines[:-1]


def _scanner(row: Row) -> str | None:
    return row.value("scanner") or None


def _magnifications(scans: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Count slides by magnification; what a header does not state is unknown."""
    tallies = {
        c: Counter(a.get("objective") if (a.get("objective") or 0) > 0 else None for a in each)
        for c, each in scans.items()
    }
    names = sorted({name for tally in tallies.values() for name in tally if name}, reverse=True)
    if any(None in tally for tally in tallies.values()):
        names.append(None)
    return [
        {"group": "Magnification", "label": f"{name:g}x" if name else "not in the header"}
        | {c: f"{tally[name]:,}" for c, tally in tallies.items()}
        for name in names
    ]


def _megapixels(scan: Mapping[str, Any]) -> float:
    return scan["width_px0"] * scan["height_px0"] / 1e6


def _spread(values: Iterable[float | None], digits: int) -> str:
    """Format median and range of what is known."""
    known = [value for value in values if value is not None and value > 0]
    if not known:
        return NONE
    middle, low, high = (
        format_number(value, digits) for value in (statistics.median(known), min(known), max(known))
    )
    return low if low == high else f"{middle} ({low} to {high})"
