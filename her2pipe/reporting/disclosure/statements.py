"""What only the authors of a study know: approval, consent, funding and the like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from her2pipe.config.slides import Statement
from her2pipe.reporting import html
from her2pipe.reporting.html import Column, Table
from her2pipe.reporting.inputs import ReportInputs

NOT_STATED = "not stated"
TITLES: Mapping[str, str] = {
    "ethics": "Ethics approval",
    "consent": "Consent",
    "data": "Availability of the data",
    "code": "Availability of code and models",
    "funding": "Funding",
    "interests": "Competing interests",
    "registration": "Registration",
    "protocol": "Study protocol",
    "intended_use": "Intended use and users",
    "involvement": "Involvement of patients and the public",
}


def statements(inputs: ReportInputs) -> dict[str, str]:
    """Return each statement of the study by its key, `not stated` where there is none."""
    values = inputs.study.setting("study", "statements", {})
    return {key: values.get(key) or NOT_STATED for key in get_args(Statement)}


def statement_table(inputs: ReportInputs) -> Table:
    """Lay out the authors' statements."""
    rows = [{"what": TITLES[k], "text": text} for k, text in statements(inputs).items()]
    caption = "Statements of the authors (settings study.statements)."
    columns = (Column("what", "Statement"), Column("text", "Text"))
    return html.table(caption, columns, rows, sortable=False, id=html.table_id("statements"))
