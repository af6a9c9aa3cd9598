# What the rules share: the checked study, what it makes, and what jobs read and are called with.

from her2pipe.workflow import run_log, snakemake_api
from her2pipe.workflow.commands import Commands
from her2pipe.workflow.fingerprints import Fingerprints
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.manifests import Manifests
from her2pipe.workflow.quick.planning import plan_quickly
from her2pipe.workflow.resources import gpus, growing, threads_for
from her2pipe.workflow.targets import Targets

plan_quickly()
study = snakemake_api.load_study(config, workflow)
targets = Targets(study)
inputs = Inputs(targets)
commands = Commands(inputs)
fingerprints = Fingerprints(inputs)
manifests = Manifests(inputs)


def start():
    manifests.write()
    run_log.start()


listeners = snakemake_api.prepare(workflow, study, start)


if study.settings.study.container:  # of all rules

    container: study.settings.study.container


onstart:
    listeners.start.begin()


onsuccess:
    snakemake_api.succeed(listeners)


onerror:
    snakemake_api.report_failures(listeners)
