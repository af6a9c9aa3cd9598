"""The JSON schema of a study file, for editors: `python -m her2pipe.config.schema`."""

from __future__ import annotations

import json

from her2pipe.config import Config


def schema() -> str:
    """Return the JSON schema of a study file."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
