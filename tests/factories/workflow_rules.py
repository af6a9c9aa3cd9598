"""The rules of the demo study as Snakemake itself has read them."""

import json
from functools import cache
from pathlib import Path

from process_server import shared

ROOT = Path(__file__).parents[2]


@cache
def rules():
    """Return what each rule declares, by its name; the workflow is read by a process of its own.

    Returns
    -------
    dict of str to dict
        `file` of the rule; `output`, `input` (paths, or names of functions), `log`, `benchmark`,
        `conda` (path or None), `shell`; and `resources`: names, with their amounts at the first
        two attempts (`mem_mb: [1000, 2000]`), None where these depend on the job.
    """
    code = f"import runpy, snakemake; runpy.run_path({__file__!r}, run_name='__main__')"
    run = shared().run(code, [__file__], ROOT)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def _amounts(resource):
    if not resource.is_evaluable():
        return [resource.value] * 2
    try:
        return [resource.evaluate(None, attempt=attempt).value for attempt in (1, 2)]
    except (AttributeError, TypeError):  # depends on the job
        return None


def _read():
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(verbose=False)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(),
            snakefile=ROOT / "Snakefile",
        )._workflow
        return {
            rule.name: {
                "file": Path(rule.snakefile).relative_to(ROOT).as_posix(),
                "output": [str(path) for path in rule.output],
                "input": [getattr(path, "__name__", str(path)) for path in rule.input],
                "log": [str(path) for path in rule.log],
                "benchmark": str(rule.benchmark) if rule.benchmark else None,
                "conda": str(rule.conda_env) if rule.conda_env else None,
                "shell": rule.shellcmd or "",
                "resources": {name: _amounts(r) for name, r in rule.resources.items()},
            }
            for rule in workflow.rules
        }


if __name__ == "__main__":
    print(json.dumps(_read()))
