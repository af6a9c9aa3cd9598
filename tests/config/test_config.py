"""Settings: all mistakes at once, flags that carry every value, a schema that is current."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from her2pipe import config
from her2pipe.config import cross_references, flags, load
from her2pipe.config.aggregation import AGGREGATIONS
from her2pipe.config.base import CHOICE, is_choice
from her2pipe.config.schema import schema
from her2pipe.errors import Her2Error, ManyErrors

ROOT = Path(__file__).parents[2]
SECTIONS = [
    field.annotation
    for name, field in config.Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, config.Section)
]
MINIMAL = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "encoders": {"swin-t": {}},
    "methods": {"TL-PA": {"encoder": "swin-t"}},
}


def write(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_demo_is_valid_and_comments_every_key():
    text = (ROOT / "config.yaml").read_text()
    load.load(ROOT / "config.yaml")
    assert set(yaml.safe_load(text)) <= set(config.Config.model_fields)


def test_minimal_study_takes_the_published_values():
    study = load.check(MINIMAL, "study.yaml")
    assert study.tile.adaptive_area_px0 == 1e9
    assert study.tile.variance_min == 500
    assert study.encoders["swin-t"].batch_size == 128
    assert study.encoders["swin-t"].frozen == ["patch_embed", "layers.0", "layers.1"]
    assert study.encoders["swin-t"].fractions["1024"]["Non-tumour"] == 0.49
    assert study.score.cutoffs == (0.10, 0.15, 0.20, 0.25)


def test_all_mistakes_are_reported_with_key_and_line(tmp_path):
    path = write(
        tmp_path,
        "cohorts:\n"
        "  A: {sheet: a.tsv, role: development}\n"
        "  B: {sheet: b.tsv, role: extern}\n"
        "encoders:\n"
        "  swin-t: {batch_siz: 3}\n"
        "methods:\n"
        "  TL-PA: {encoder: swin-t}\n"
        "tile:\n"
        "  variance_min: -1\n"
        "  tile_px: 3\n",
    )
    with pytest.raises(ManyErrors) as caught:
        load.load(path)
    text = str(caught.value)
    assert f"{path} line 3, key cohorts.B.role" in text
    assert f"{path} line 5, key encoders.swin-t.batch_siz" in text
    assert "did you mean batch_size?" in text
    assert f"{path} line 9, key tile.variance_min" in text
    assert f"{path} line 10, key tile.tile_px" in text
    assert len(caught.value.problems) == 4
    for problem in caught.value.problems:
        lines = str(problem).splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("her2pipe: ")
        assert lines[1].startswith("  where: ")
        assert lines[2].startswith("  fix:   ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"TL-PA": {"encoder": "swin"}}}, "unknown encoder: swin"),
        ({"cohorts": {"A": {"sheet": "a", "role": "external"}}}, "0 cohorts have the role"),
        ({"cohorts": {"../A": {"sheet": "a", "role": "development"}}}, "'../A'"),
        ({"encoders": {"swin-t": {"view": "half"}}}, "view is 'half'"),
        ({"score": {"cutoffs": [0.2, 0.1, 0.3, 0.4]}}, "must ascend"),
        ({"heatmap": {"methods": ["X"]}}, "unknown method: X"),
        ({"synthesise": {"scanners": {"Z": {}}}}, "scanner is for no cohort: Z"),
        (
            {"methods": {"M": {"encoder": "swin-t", "fit": {"folds": 3}}}},
            "probabilistic fits nothing",
        ),
        (
            {
                "methods": {
                    "M": {
                        "encoder": "swin-t",
                        "aggregate": "slidegraph",
                        "fit": {"targets": "levels"},
                    }
                }
            },
            "top_k, transmil, not of slidegraph",
        ),
        (
            {"encoders": {"swin-t": {"task": "features"}}},
            "method TL-PA averages probabilities of classes, its encoder gives none",
        ),
    ],
)
def test_references_and_values_are_checked(change, message):
    with pytest.raises(Her2Error) as caught:
        load.check(MINIMAL | change, "study.yaml")
    assert message in str(caught.value)


def test_unknown_names_are_reported_beside_other_mistakes():
    study = MINIMAL | {"methods": {"TL-PA": {"encoder": "swin"}}, "tile": {"patchpx": 1}}
    with pytest.raises(ManyErrors) as caught:
        load.check(study, "study.yaml")
    assert "unknown encoder: swin" in str(caught.value)
    assert "unknown key patchpx" in str(caught.value)


def test_the_demo_shows_every_key():
    """config.yaml is the manual: no setting is missing from it."""
    text = (ROOT / "config.yaml").read_text()
    for name, field in config.Config.model_fields.items():
        kind = field.annotation
        inner = [a for a in getattr(kind, "__args__", ()) if hasattr(a, "model_fields")]
        kind = inner[-1] if inner else kind
        for key in kind.model_fields:
            if key != "algorithm":
                assert re.search(rf"^ +#? ?{key}:", text, re.M), f"{name}.{key}"
    for aggregation in AGGREGATIONS:
        for key in aggregation.Settings.model_fields if aggregation.Settings else ():
            assert key == "algorithm" or re.search(rf"^ +#? ?{key}:", text, re.M), f"fit.{key}"


def test_the_demo_marks_what_no_paper_states():
    """[choice] in config.yaml, help and schema, where a setting is declared so, nowhere else."""
    declared, marked, section = set(), set(), ""
    for name, field in config.Config.model_fields.items():
        kinds = [field.annotation]
        if name == "fit":
            kinds = [a.Settings for a in AGGREGATIONS if a.Settings]
        for kind in kinds:
            fields = getattr(kind, "model_fields", {})
            declared |= {f"{name}.{key}" for key, each in fields.items() if is_choice(each)}
            for each in fields.values():
                assert is_choice(each) == str(each.description).endswith(CHOICE)
    for line in (ROOT / "config.yaml").read_text().splitlines():
        if match := re.match(r"([a-z]+):", line):
            section = {"encoders": "train", "pretrainings": "pretrain"}.get(match[1], match[1])
        elif match := re.match(r" +#? ?(\w+):.*\[choice\]", line):
            marked.add(f"{section}.{match[1]}")
    assert marked == declared
    assert {"train.flips", "train.jitter", "pretrain.mirror", "stain.stain_sparsity"} < declared


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    text = yaml.safe_dump(MINIMAL) + "tile: {patch_px: 256}\ntile: {patch_px: 512}\n"
    with pytest.raises(Her2Error, match="duplicate key tile"):
        load.load(write(tmp_path, text))


def test_not_yaml_and_not_there(tmp_path):
    with pytest.raises(Her2Error, match="is not YAML"):
        load.load(write(tmp_path, "a: [1\nb: 2\n"))
    with pytest.raises(Her2Error, match="does not exist"):
        load.load(tmp_path / "none.yaml")
    with pytest.raises(Her2Error, match="cohorts is missing"):
        load.load(write(tmp_path, ""))


def test_an_encoder_overrides_train():
    study = load.check(
        MINIMAL
        | {"train": {"batch_size": 16, "max_epochs": 3}, "encoders": {"swin-t": {"max_epochs": 7}}},
        "study.yaml",
    )
    assert study.encoders["swin-t"].batch_size == 16
    assert study.encoders["swin-t"].max_epochs == 7


def test_a_shared_fit_setting_goes_to_the_aggregations_that_have_it():
    methods = {name: {"encoder": "swin-t", "aggregate": name} for name in AGGREGATIONS.names()}
    study = load.check(
        MINIMAL | {"methods": methods, "fit": {"folds": 2, "hidden": 8, "targets": "levels"}}, "x"
    )
    fits = {name: method.fit for name, method in study.methods.items()}
    assert [name for name in fits if getattr(fits[name], "folds", 0) != 2] == ["probabilistic"]
    having = {name for name in fits if hasattr(fits[name], "hidden")}
    assert having == {"mlp", "abmil", "ordinal_abmil", "max", "top_k"}
    assert (fits["mlp"].hidden, fits["clam"].targets) == (8, "levels")
    for shared, message in (
        ({"fold": 2}, "did you mean folds?"),
        ({"hidden": 0}, "hidden is 0"),
        ({"classes": "levels"}, "fit.classes is now called targets"),
    ):
        with pytest.raises(Her2Error) as caught:
            load.check(MINIMAL | {"methods": methods, "fit": shared}, "study.yaml")
        assert message in str(caught.value)
        assert all(len(str(p).splitlines()) == 3 for p in getattr(caught.value, "problems", []))


def test_a_method_overrides_fit_and_fit_its_published_values():
    methods = {
        "CLAM": {"encoder": "swin-t", "aggregate": "clam"},
        "Graph": {"encoder": "swin-t", "aggregate": "slidegraph", "fit": {"max_epochs": 7}},
    }
    study = load.check(MINIMAL | {"methods": methods, "fit": {"folds": 2}}, "study.yaml")
    clam, graph = (study.methods[name].fit for name in methods)
    assert (clam.folds, clam.learning_rate, clam.weight_decay, clam.max_epochs) == (
        2,
        2e-4,
        1e-5,
        200,
    )
    assert (clam.patience, clam.min_epochs, clam.bag_weight, clam.step_slides) == (20, 50, 0.7, 1)
    assert (graph.folds, graph.learning_rate, graph.weight_decay, graph.max_epochs) == (
        2,
        1e-3,
        1e-4,
        7,
    )
    assert (graph.patience, graph.best_epochs, graph.step_slides) == (30, 10, 8)
    assert graph.graph_area_px0 == 1e9
    small = {"tile": {"adaptive_area_px0": 3e7}, "methods": methods}
    assert load.check(MINIMAL | small, "x").methods["Graph"].fit.graph_area_px0 == 3e7


def test_settings_never_change():
    with pytest.raises(Exception, match="frozen"):
        config.TileSettings().patch_px = 3


def test_flags_carry_every_setting():
    """What Snakemake types comes back as the same settings, for defaults and for changed values."""
    lost = []
    for section in SECTIONS:
        flagged = flags.flag_fields(section)
        for settings in (section(), _changed(section)):
            parser = argparse.ArgumentParser()
            flags.add_flags(parser, section)
            args = parser.parse_args(shlex.split(flags.to_flags(settings)))
            again = flags.from_flags(section, args)
            lost += [
                f"{section.__name__}.{name}"
                for name in flagged
                if getattr(again, name) != getattr(settings, name)
            ]
    assert lost == []


def _changed(section):
    """Settings of a section, as many as possible of them other than the default."""
    values = {}
    for name, field in section.model_fields.items():
        if not field.json_schema_extra["flag"]:
            continue
        if isinstance(field.default, bool):
            values[name] = not field.default
        elif field.annotation is int and name != "algorithm":
            values[name] = field.default + 1
        elif field.annotation is str:
            values[name] = "a b'c"
    return section(**{k: v for k, v in values.items() if _valid(section, k, v)})


def _valid(section, key, value):
    try:
        section(**{key: value})
    except ValueError:
        return False
    return True


def test_help_states_meaning_unit_and_default():
    missing = []
    for section in SECTIONS:
        parser = argparse.ArgumentParser(
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=300)
        )
        flags.add_flags(parser, section)
        text = re.sub(r"\s+", " ", parser.format_help())
        for name, field in flags.flag_fields(section).items():
            meaning = field.description.split(";")[0].replace("%%", "%")
            words = (f"--{name.replace('_', '-')}", meaning, field.json_schema_extra["unit"])
            missing += [f"{section.__name__}.{name}: {word}" for word in words if word not in text]
    assert missing == []


def test_a_wrong_flag_is_named():
    parser = argparse.ArgumentParser()
    flags.add_flags(parser, config.TileSettings)
    args = parser.parse_args(["--patch-px", "0", "--jpeg-quality", "much"])
    with pytest.raises(ManyErrors) as caught:
        flags.from_flags(config.TileSettings, args)
    assert {p.where for p in caught.value.problems} == {
        "option --patch-px",
        "option --jpeg-quality",
    }


def test_every_setting_has_a_meaning():
    for section in [*SECTIONS, config.Cohort, config.Encoder, config.Method, config.Scanner]:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_schema_is_current_and_knows_the_demo():
    from jsonschema import validate

    shipped = (ROOT / "studies" / "schema.json").read_text()
    assert shipped == schema(), "run make schema"
    validate(yaml.safe_load((ROOT / "config.yaml").read_text()), json.loads(shipped))


def test_the_published_study_has_all_rows_of_table_2():
    study = load.load(ROOT / "studies" / "tlpa.yaml")
    assert list(study.methods) == [
        *("TL-PA", "TL-SlideGraph+", "TL-CLAM", "ResNet50-CLAM", "Farahmand", "Rawat"),
        *("DAB-SlideGraph+", "Valieris"),
    ]
    assert {study.methods[n].encoder for n in ("TL-PA", "TL-SlideGraph+", "TL-CLAM")} == {"swin-t"}
    valieris = study.methods["Valieris"].fit
    assert (valieris.targets, valieris.branch, valieris.learning_rate) == ("levels", "multi", 2e-4)


CLASSY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "labels": {"endpoint": "class"},
    "encoders": {"small": {"train_views": ["64"], "fractions": {"64": {"1+": 0.5}}}},
    "methods": {"net": {"encoder": "small", "aggregate": "mean"}},
}


def test_a_study_of_classes_and_its_flags():
    study = load.check(CLASSY, "study.yaml")
    assert study.labels.reflex == ["2+"]
    groups = {"negative": [0, "1+"], "positive": ["2+", "3+"]}
    labels = config.LabelSettings(
        endpoint="class", classes=["negative", "positive"], groups=groups, ordered=False
    )
    assert labels.reflex == []
    assert labels.values("negative") == ["0", "1+"]  # a number of YAML is its text
    parser = argparse.ArgumentParser()
    flags.add_flags(parser, config.LabelSettings)
    args = parser.parse_args(shlex.split(flags.to_flags(labels)))
    assert flags.from_flags(config.LabelSettings, args) == labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"classes": ["a", "b"]}}, "labels.classes is given, but the endpoint is her2"),
        ({"labels": {"endpoint": "class", "classes": ["a"]}}, "at least 2 items"),
        ({"labels": {"endpoint": "class", "classes": ["a", "a"]}}, "classes must differ"),
        (
            {"labels": {"endpoint": "class", "groups": {"1+": ["1", "2+"]}}},
            "the value 2+ is in two classes",
        ),
        ({"labels": {"endpoint": "class", "groups": {"4+": ["4"]}}}, "groups names 4+"),
        (
            {"labels": {"endpoint": "class", "groups": {"1+": ["1"]}}},
            "a class is made of 1, which ihc never is",
        ),
        ({"labels": {"endpoint": "class", "reflex": ["4+"]}}, "reflex names 4+"),
        (
            {"methods": {"net": {"encoder": "small"}}},
            "method net: probabilistic aggregation scores HER2 status",
        ),
        (
            {"methods": {"net": {"encoder": "small", "aggregate": "slidegraph"}}},
            "method net: SlideGraph+ ranks slides of two classes, not of 3",
        ),
        (
            {"methods": {"net": {"encoder": "small", "aggregate": "mean", "fit": {"patience": 2}}}},
            "top_k, transmil, not of mean",
        ),
        (
            {"encoders": {"small": {"task": "none"}}},
            "averages probabilities of classes, its encoder gives none",
        ),
        (
            {"encoders": {"small": {"fractions": {"64": {"HER2+": 0.5}}}}},
            "HER2+ is no class of the study",
        ),
        ({"train": {"fractions": {"64": {"4+": 0.5}}}}, "4+ is no class of the study"),
        ({"describe": {"encoders": ["small"]}}, "which this study does not have"),
        (
            {"cohorts": CLASSY["cohorts"] | {"N": {"sheet": "N.tsv", "role": "treatment"}}},
            "cohort N is one of treatment",
        ),
    ],
)
def test_what_makes_no_sense_beside_classes_is_reported(change, message):
    with pytest.raises(Her2Error) as caught:
        load.check(CLASSY | change, "study.yaml")
    assert message in str(caught.value)


def test_fractions_of_no_class_are_reported_in_a_study_of_status():
    change = {"train": {"fractions": {"1024": {"HER2": 0.5}}}}
    with pytest.raises(Her2Error, match="HER2 is no class of the study"):
        load.check(MINIMAL | change, "study.yaml")


@pytest.mark.parametrize(
    ("explain", "message"),
    [
        ({"encoders": ["swin"]}, "explain.encoders names an unknown encoder: swin"),
        ({"layers": {"swin": "layers.3"}}, "explain.layers names an unknown encoder: swin"),
        ({"encoders": ["frozen"]}, "explain.encoders names frozen, which has no classes"),
    ],
)
def test_only_encoders_with_classes_are_explained(explain, message):
    encoders = {**MINIMAL["encoders"], "frozen": {"task": "none"}}
    with pytest.raises(Her2Error) as caught:
        load.check(MINIMAL | {"encoders": encoders, "explain": explain}, "study.yaml")
    assert message in str(caught.value)


def test_settings_that_match_in_vain_are_reported():
    study = {
        "labels": {"endpoint": "class"},
        "methods": {"m": {}},
        "cohorts": {"he": {}, "ihc": {}},
        "compare": {"matched": [[["m", "he"], ["m", "ihc"]], [["m", "hee"], ["n", "ihc"]]]},
    }

    def message(**changes):
        data = study | changes
        return [m.what for m in cross_references.matched_pairs(cross_references.RawStudy(data))]

    assert message() == [
        "compare.matched: hee is none of the cohorts",
        "compare.matched: n is none of the methods",
    ]
    assert message(labels={}) == [
        "compare.matched compares calls of classes, and the endpoint is HER2 status"
    ]
    assert message(compare={}) == []
