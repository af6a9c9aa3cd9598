"""Snakemake's plugin of her2pipe: a run's events as JSON, and study files that cannot harm.

`--logger her2pipe` writes each event of a run as a line of JSON, for whoever watches many runs.
Snakemake loads its plugins before it reads any file of settings, and fails with a stack of its own
at one that is not UTF-8, or never ends reading one whose aliases stand for billions of values: so
study files are read here, with limits, before.
"""

import json
import sys
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

STANDARD = frozenset(LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "taskName"}


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """What `--logger her2pipe` may be given."""

    file: Path = field(
        default=Path("logs/run.jsonl"),
        metadata={"help": "file that a run's events are appended to, in the folder of the call."},
    )


class LogHandler(LogHandlerBase):
    """Appends events: `time` [s since 1970], `event` (none: a message), `level`, their fields."""

    settings: LogHandlerSettings

    def __post_init__(self) -> None:
        """Open the file."""
        path = self.settings.file
        path.parent.mkdir(parents=True, exist_ok=True)
        self.baseFilename = str(path.absolute())
        self._file = path.open("a", encoding="utf-8")

    def emit(self, record: LogRecord) -> None:
        """Write one event."""
        values = {key: value for key, value in vars(record).items() if key not in STANDARD}
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), **values}
        if message := record.getMessage():
            line["message"] = message
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake's own lines on the terminal stay."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Whether events go into a file."""
        return True

    @property
    def has_filter(self) -> bool:
        """Everything is written, whatever a terminal shows."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Lines are JSON."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """The graph of rules is not written."""
        return False


def _check_study_files() -> None:
    """Read the study files of this call; end with three lines at one that cannot be read."""
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return  # Snakemake as a library, or another program that lists plugins
    from her2pipe.config import load
    from her2pipe.errors import Her2Error
    from snakemake_logger_plugin_her2pipe.study_files import study_files

    try:
        for path in study_files(sys.argv[1:]):
            load.read(path)
    except Her2Error as mistake:
        sys.exit(str(mistake))


_check_study_files()
