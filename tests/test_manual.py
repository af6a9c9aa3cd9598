"""The manual says what is so: its commands exist, its settings load, its code runs."""

import gc
import importlib
import json
import re
import shlex
import warnings

import numpy as np
import pytest
import yaml
from manual import ROOT, blocks, inline_commands, pages, shell_lines
from safetensors.numpy import save_file

from her2pipe import cli, parsers, verbs
from her2pipe.cohorts import sheet
from her2pipe.config import Config, load
from her2pipe.errors import Her2Error

SWIN = "swin_tiny_patch4_window7_224"
# What a block of YAML lies over, as far as it does not say it itself.
STUDY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "pretrainings": {"shapes": {"architecture": SWIN, "images": "synthetic"}},
    "encoders": {"net": {"architecture": "resnet10t", "fractions": {}}},
    "methods": {"M": {"encoder": "net", "aggregate": "mean"}},
}
PRESET = {"mine"}  # not of a study: the example of a file of presets, which test_presets registers


def parser_of(verb, words):
    module = importlib.import_module(f"her2pipe.{cli.VERBS[verb]}")
    return parsers.parser_of(verb, module, parsers.settings_of(module, words))


def wrong_command(words):
    """Return what is wrong with a complete command line of her2pipe; empty when nothing is."""
    verb, *rest = words
    if verb == verbs.COMPLETION or verb.startswith("--"):
        return ""
    if verb not in cli.VERBS:
        return f"no verb {verb}"
    try:
        parser_of(verb, rest).parse_intermixed_args(rest)
    except Her2Error as error:
        return str(error.what)
    return ""


def test_commands_of_the_manual_exist():
    """Whole lines in blocks of shell parse; in sentences verbs and flags exist."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    wrong = []
    for page, words in shell_lines():
        program = words[0].removeprefix(".venv/bin/").rpartition("/")[2]
        if program == "her2pipe" and (problem := wrong_command(words[1:])):
            wrong.append(f"{page}: {' '.join(words)}: {problem}")
        elif program == "make":
            missing = {word for word in words[1:] if "=" not in word} - targets
            wrong += [f"{page}: make {name}" for name in missing]
    for page, (_, verb, *words) in inline_commands():
        if verb == verbs.COMPLETION:
            continue
        if verb not in cli.VERBS:
            wrong.append(f"{page}: no verb {verb}")
            continue
        known = {f for a in parser_of(verb, words)._actions for f in a.option_strings}
        end = words.index("--") if "--" in words else len(words)
        flags = {word.split("=")[0] for word in words[:end] if re.match("--?[a-z]", word)}
        wrong += [f"{page}: her2pipe {verb} {flag}" for flag in flags - known]
    assert wrong == [], "\n".join(wrong)


def test_examples_of_help_parse():
    lines = [line for verb in verbs.VERBS.values() for line in verb.examples]
    assert [p for line in lines if (p := wrong_command(shlex.split(line)[1:]))] == []
    assert [verb.name for verb in verbs.VERBS.values() if not verb.examples] == []


def test_settings_of_the_manual_load():
    """Each block of YAML is a study, once it lies over a small one."""
    wrong = []
    for block in blocks("yaml"):
        fragment = yaml.safe_load(block.text)
        if set(fragment) <= PRESET:
            continue
        study = {**STUDY, **fragment}
        if "swin-t" in block.text and "encoders" not in fragment:
            study["encoders"] = {"swin-t": {"architecture": SWIN}}
        if "methods" not in fragment:
            encoder = next(iter(study["encoders"]))
            study["methods"] = {"M": {"encoder": encoder, "aggregate": "clam"}}
        if all(cohort["role"] != "development" for cohort in study["cohorts"].values()):
            study["cohorts"] = {**STUDY["cohorts"], **study["cohorts"]}
        try:
            load.check(study, block.page)
        except Her2Error as error:
            wrong.append(f"{block.page}: {error}")
    assert wrong == [], "\n".join(wrong)


def test_settings_that_the_manual_names_exist():
    """`section.key` in a sentence is a setting of that section."""
    keys = {}
    for name, field in Config.model_fields.items():
        kinds = getattr(field.annotation, "__args__", None) or (field.annotation,)
        keys[name] = set(kinds[-1].model_fields)
    from her2pipe.aggregation.base import AGGREGATIONS

    for aggregation in AGGREGATIONS:
        keys["fit"] |= set(aggregation.Settings.model_fields) if aggregation.Settings else set()
    endings = {"tsv", "json", "html", "py", "yaml", "md", "safetensors", "zip", "h5", "pq"}
    wrong = []
    for page, text in pages().items():
        for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", text):
            if section in keys and key not in keys[section] | endings:
                wrong.append(f"{page}: {section}.{key}")
    assert wrong == [], "\n".join(wrong)


def test_every_column_of_a_sheet_is_in_the_manual():
    text = pages()["docs/reference/sheets.md"]
    assert [name for name in sheet.REQUIRED + sheet.OPTIONAL if f"`{name}`" not in text] == []


def test_the_manual_names_files_that_exist():
    """Files of the repository in code, such as `studies/tlpa.yaml`."""
    names = r"`((?:docs|studies|bench|profiles|tests|workflow|her2pipe|envs)/[\w/.+-]+)`"
    wrong = []
    for page, text in pages().items():
        for path in re.findall(names, text):
            if not (ROOT / path).exists() and not (ROOT / "her2pipe" / path).exists():
                wrong.append(f"{page}: {path}")
    assert wrong == [], "\n".join(wrong)


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if "//" not in link and not (ROOT / link).exists()] == []
    assert (ROOT / "docs/images/overview.png").stat().st_size < 300_000


@pytest.mark.slow
def test_code_of_the_manual_runs(make, tmp_path, monkeypatch):
    """Blocks of Python read a store, a bundle and a report.json that are there.

    Those with a title are modules of a package, which test_plugins installs.
    """
    monkeypatch.chdir(tmp_path)
    make.store(tmp_path / "slide.h5", np.zeros((1, 16, 16, 3), np.uint8), [(0, 0)])
    encoder, aggregation = tmp_path / "TL-CLAM/encoder", tmp_path / "TL-CLAM/aggregation"
    for folder in (encoder, aggregation):
        folder.mkdir(parents=True)
        save_file({"weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
        (folder / "model.json").write_text("{}")
    (tmp_path / "TL-CLAM/bundle.json").write_text("{}")
    report = tmp_path / "results/report/report.json"
    report.parent.mkdir(parents=True)
    row = {"metric": "auc", "method": "M", "cohort": "C", "value": 0.9}
    report.write_text(json.dumps({"rows": [row]}))
    code = [block for block in blocks("python") if "title=" not in block.options]
    assert len(code) >= 3
    for block in code:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # files that an example leaves open
            exec(compile(block.text, block.page, "exec"), {})
            gc.collect()
