"""Check what the demo must show: every slide accounted for, and TL-PA's external AUC."""

import csv
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FAULTS = {"C-016": "no tissue", "D-013": "unreadable: the"}


def table(path):
    """Read a TSV as a list of dictionaries."""
    with (ROOT / path).open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


cohorts = yaml.safe_load((ROOT / "config.yaml").read_text())["cohorts"]
slides = sorted(row["slide"] for part in cohorts.values() for row in table(part["sheet"]))
ledger = table("results/ledger/ledger.tsv")
assert sorted(row["slide"] for row in ledger) == slides, "the ledger lost or invented slides"
excluded = {row["slide"]: row["reason"] for row in ledger if row["status"] == "excluded"}
assert set(excluded) == set(FAULTS), excluded
assert all(excluded[slide].startswith(reason) for slide, reason in FAULTS.items()), excluded

external = [name for name, part in cohorts.items() if part["role"] == "external"]
methods = table("results/compare/methods.tsv")
aucs = [float(r["auc"]) for r in methods if r["method"] == "TL-PA" and r["cohort"] in external]
assert len(aucs) == len(external)
mean = sum(aucs) / len(aucs)
print(f"demo: {len(slides)} slides, {len(excluded)} excluded; TL-PA external AUC {mean:.3f}")
assert mean >= 0.80, "TL-PA's mean external AUC is below 0.80"
assert (ROOT / "results/report/index.html").stat().st_size > 500_000
