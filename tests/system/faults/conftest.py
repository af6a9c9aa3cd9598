"""Counts what survived, for the last lines of a run: `faults: 120 of 120 survived`."""

from pathlib import Path

HERE = Path(__file__).parent.name


def pytest_terminal_summary(terminalreporter):
    survived, tried = 0, 0
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if f"system/{HERE}/" in getattr(report, "nodeid", "") and report.when != "teardown":
                tried += 1
                survived += outcome == "passed"
    if tried:
        terminalreporter.write_line(f"faults: {survived} of {tried} survived")
