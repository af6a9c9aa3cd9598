"""Study files: their sections; read from YAML and checked, all mistakes at once, with lines."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from her2pipe.config import grid
from her2pipe.config.aggregation import (
    Method,
    SharedFitSettings,
    over_shared,
    with_bundled_encoders,
)
from her2pipe.config.base import Name, Section
from her2pipe.config.cross_references import RawStudy, find_mistakes
from her2pipe.config.endpoints import LabelSettings
from her2pipe.config.evaluation import (
    CompareSettings,
    DriftSettings,
    EvaluateSettings,
    QualitySettings,
)
from her2pipe.config.grid import GridSettings
from her2pipe.config.mistakes import Mistake, explain
from her2pipe.config.reporting import (
    DescribeSettings,
    ExplainSettings,
    HeatmapSettings,
    LedgerSettings,
    ReportSettings,
)
from her2pipe.config.slides import (
    Cohort,
    DrawSettings,
    ImagesSettings,
    PreflightSettings,
    SlidesSettings,
    SplitSettings,
    StainSettings,
    StudySettings,
    SynthesiseSettings,
    TileSettings,
    TissueSettings,
)
from her2pipe.config.training import (
    BundleSettings,
    CompatibilitySettings,
    DeploySettings,
    Encoder,
    EncodeSettings,
    Pretraining,
    PretrainSettings,
    ScoreSettings,
    TrainSettings,
    UnpackSettings,
    over_shared_training,
)
from her2pipe.errors import Her2Error, raise_all

MISREAD = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+")  # octal, base 60
MOST_BYTES = 5_000_000  # of a study file
MOST_VALUES = 100_000  # of a study file, aliases counted wherever they stand
MOST_DEPTH = 50  # of values inside values
REMEDY = "a study file is YAML text (UTF-8), like config.yaml"

# For lines of what was read before: ten times as fast, but it bears no file nested too deep.
LINES_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Key = tuple[str, ...]


def _methods_or_grid(schema: dict[str, Any]) -> None:
    """Let a study file have methods, or a grid that makes them."""
    schema["required"].remove("methods")
    schema["anyOf"] = [{"required": ["methods"]}, {"required": ["grid"]}]


def _over(common: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    return {**common, **named}


class Config(Section):
    """A study file."""

    model_config = ConfigDict(json_schema_extra=_methods_or_grid)

    study: StudySettings = Field(default_factory=StudySettings)
    cohorts: dict[Name, Cohort] = Field(..., min_length=1)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    slides: SlidesSettings = Field(default_factory=SlidesSettings)
    images: ImagesSettings = Field(default_factory=ImagesSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    stain: StainSettings = Field(default_factory=StainSettings)
    tissue: TissueSettings = Field(default_factory=TissueSettings)
    synthesise: SynthesiseSettings = Field(default_factory=SynthesiseSettings)
    draw: DrawSettings = Field(default_factory=DrawSettings)
    preflight: PreflightSettings = Field(default_factory=PreflightSettings)
    tile: TileSettings = Field(default_factory=TileSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    pretrainings: dict[Name, Pretraining] = Field({})
    train: TrainSettings = Field(default_factory=TrainSettings)
    encoders: dict[Name, Encoder] = Field({})
    unpack: UnpackSettings = Field(default_factory=UnpackSettings)
    encode: EncodeSettings = Field(default_factory=EncodeSettings)
    compatibility: CompatibilitySettings = Field(default_factory=CompatibilitySettings)
    fit: SharedFitSettings = Field(default_factory=SharedFitSettings)
    methods: dict[Name, Method] = Field(..., min_length=1)
    grid: GridSettings = Field(default_factory=GridSettings)
    quality: QualitySettings = Field(default_factory=QualitySettings)
    score: ScoreSettings = Field(default_factory=ScoreSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    compare: CompareSettings = Field(default_factory=CompareSettings)
    describe: DescribeSettings = Field(default_factory=DescribeSettings)
    heatmap: HeatmapSettings = Field(default_factory=HeatmapSettings)
    explain: ExplainSettings = Field(default_factory=ExplainSettings)
    deploy: DeploySettings = Field(default_factory=DeploySettings)
    bundle: BundleSettings = Field(default_factory=BundleSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)

    @model_validator(mode="before")
    @classmethod
    def _named_over_shared(cls, data: Any) -> Any:
        """Lay the settings of each encoder over those of `train`, and of each pre-training."""
        if not isinstance(data, dict):
            return data
        data = with_bundled_encoders(data)
        for shared, several in (("train", "encoders"), ("pretrain", "pretrainings")):
            common, named = data.get(shared) or {}, data.get(several)
            if isinstance(common, dict) and isinstance(named, dict):
                lay = over_shared_training if several == "encoders" else _over
                merged = {
                    k: lay(common, v or {}) if isinstance(v or {}, dict) else v
                    for k, v in named.items()
                }
                data = {**data, several: merged}
        if isinstance(data.get("methods"), dict):
            data = {**data, "methods": over_shared(data)}
        return {
            k: {} if v is None and k not in ("cohorts", "methods") else v for k, v in data.items()
        }


def load(path: str | Path) -> Config:
    """Read and check a study file.

    Raises
    ------
    Her2Error
        With every mistake of the file, each with its key and line.
    """
    return check(read(path), str(path))


def read(path: str | Path) -> Any:
    """Read the values of a study file; aliases that stand for very much are refused.

    Raises
    ------
    Her2Error
        When it is not there, no text, no YAML, or too large.
    """
    node = _compose(path)
    if node is None:
        return None
    _measure(node, str(path))
    try:
        return yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.YAMLError as error:  # of a value that YAML takes for a date, say
        raise _not_yaml(error, path) from None
    except (ValueError, OverflowError, TypeError, LookupError) as error:
        what = f"a value of the study file cannot be read: {error}"
        raise Her2Error(what, str(path), "put it in quotes") from None


def _compose(path: str | Path, loader: type = yaml.SafeLoader) -> yaml.Node | None:
    """Read the text of a study file as nodes of YAML, which know their lines."""
    where = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise Her2Error(f"the study file is {what}", where, "give the file itself")
        if status.st_size > MOST_BYTES:
            size = f"{status.st_size / 1e6:.0f} MB"
            raise Her2Error(f"the study file is too large: {size}", where, REMEDY)
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Her2Error("the study file does not exist", where, "check the path") from None
    except UnicodeDecodeError as error:
        what = f"the study file is not UTF-8 text (byte {error.start + 1})"
        raise Her2Error(what, where, "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"the study file cannot be read: {reason}"
        raise Her2Error(what, where, "check path and permissions") from None
    try:
        return yaml.compose(text, loader)
    except RecursionError:
        raise Her2Error("the study file is nested too deep", where, REMEDY) from None
    except yaml.YAMLError as error:
        raise _not_yaml(error, where) from None


def _not_yaml(error: yaml.YAMLError, path: str | Path) -> Her2Error:
    mark = getattr(error, "problem_mark", None)
    line = f" line {mark.line + 1}" if mark else ""
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return Her2Error(
        f"the study file is not YAML: {problem}",
        f"{path}{line}",
        "mind indentation, colons and quotes",
    )


def _measure(root: yaml.Node, path: str) -> None:
    """Refuse what would take for ever: aliases of aliases, and values that hold themselves."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        where = f"{path} line {node.start_mark.line + 1}"
        if id(node) in inside:
            raise Her2Error("a value of the study file holds itself", where, "remove the alias (*)")
        if depth > MOST_DEPTH:
            raise Her2Error("the study file is nested too deep", where, REMEDY)
        inside.add(id(node))
        parts = [node.value] if isinstance(node, yaml.SequenceNode) else node.value
        children = [] if isinstance(node, yaml.ScalarNode) else [c for part in parts for c in part]
        total = 1 + sum(size(child, depth + 1) for child in children)
        inside.remove(id(node))
        if total > MOST_VALUES:
            what = f"the study file stands for more than {MOST_VALUES:,} values, by its aliases"
            raise Her2Error(what, where, "write out what aliases (*) stand for")
        sizes[id(node)] = total
        return total

    size(root, 0)


def check(data: Any, path: str) -> Config:
    """Check a study's settings; `path` is the file they came from, for the messages."""
    _refuse_endless(data, path)
    lines = _key_lines(path)
    where = places(path)
    mistakes = [
        Mistake(key, f"{text} is the number {value} to YAML", f'write {value}, or "{text}"')
        for key, text, value in lines.misread
    ]
    data = _with_text_keys(data, (), mistakes)
    problems = [
        Her2Error(f"duplicate key {'.'.join(key)}", f"{path} line {line}", "keep one of the two")
        for key, line in lines.repeated
    ]

    data, of_grid, of_its_names = grid.expand(data)
    config = None
    try:
        config = Config.model_validate(data if data is not None else {})
    except ValidationError as error:
        mistakes += _where_written(explain(error, Config), RawStudy(data))
    mistakes += of_its_names
    mistakes += find_mistakes(data, has_others=bool(mistakes))
    mistakes = list(dict.fromkeys(grid.where_given(each, of_grid) for each in mistakes))
    raise_all(problems + [Her2Error(what, where(key), fix) for key, what, fix in mistakes])
    assert config is not None
    return config


def places(path: str) -> Callable[[Key], str]:
    """Return a function that says where in a study file a key stands, or would stand."""
    lines = _key_lines(path).of_keys

    def where(key: Key) -> str:
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)
        return f"{path}{f' line {line}' if line else ''}, key {'.'.join(key) or '(all)'}"

    return where


def _with_text_keys(value: Any, key: Key, mistakes: list[Mistake]) -> Any:
    """Return values whose keys are all text; a key that YAML takes for something else is a mistake.

    Classes may be numbers: their names stand between the values of a sheet, as which they are read.
    """
    if isinstance(value, list):
        return [_with_text_keys(item, key, mistakes) for item in value]
    if not isinstance(value, dict):
        return value
    named = {}
    for name, inner in value.items():
        text = name
        if not isinstance(name, str):
            text = json.dumps(name) if name is None or isinstance(name, bool) else str(name)
            if isinstance(name, bool) or key != ("labels", "groups"):
                what = f"the name {text} is no text to YAML"
                mistakes.append(Mistake((*key, text), what, f'put it in quotes: "{text}"'))
        named[text] = _with_text_keys(inner, (*key, text), mistakes)
    return named


def _where_written(mistakes: list[Mistake], study: RawStudy) -> list[Mistake]:
    """Leave mistakes of shared settings only where they are written, not at all that share them."""
    shared = {"encoders": ("train", 2), "pretrainings": ("pretrain", 2), "methods": ("fit", 3)}
    keys = {mistake.key for mistake in mistakes}

    def is_repeated(key: Key) -> bool:
        section, depth = shared.get(key[0] if key else "", ("", 0))
        if not section or len(key) <= depth or (section, *key[depth:]) not in keys:
            return False
        return key[depth] not in study.section(*key[:depth])

    return [mistake for mistake in mistakes if not is_repeated(mistake.key)]


def _refuse_endless(data: Any, path: str) -> None:
    """Refuse values that hold themselves, or very many, wherever they come from."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        if id(value) in inside or depth > MOST_DEPTH:
            what = "a value of the study file holds itself, or is nested too deep"
            raise Her2Error(what, path, REMEDY)
        if id(value) not in sizes:
            inside.add(id(value))
            children = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(child, depth + 1) for child in children)
            inside.remove(id(value))
        return sizes[id(value)]

    if size(data, 0) > MOST_VALUES:
        raise Her2Error(f"the study has more than {MOST_VALUES:,} values", path, REMEDY)


@dataclass(frozen=True)
class _Lines:
    """What the text of a study file says beside its values.

    Attributes
    ----------
    of_keys : dict
        Line of every key.
    repeated : list
        Keys that stand twice, and the line of the second.
    misread : list
        Keys of numbers that YAML takes for others than people do: the text and its value.
    """

    of_keys: dict[Key, int] = field(default_factory=dict)
    repeated: list[tuple[Key, int]] = field(default_factory=list)
    misread: list[tuple[Key, str, int]] = field(default_factory=list)


def _key_lines(path: str) -> _Lines:
    """Read the lines of a study file's keys; none where the settings are from elsewhere."""
    lines = _Lines()

    def walk(node: yaml.Node | None, key: Key) -> None:
        if isinstance(node, yaml.ScalarNode):
            if not node.style and node.tag.endswith(":int") and MISREAD.fullmatch(node.value):
                value = yaml.constructor.SafeConstructor().construct_yaml_int(node)
                lines.misread.append((key, node.value, value))
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, (*key, str(number)))
        elif isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                inner = (*key, str(name.value))
                if inner in lines.of_keys:
                    lines.repeated.append((inner, name.start_mark.line + 1))
                lines.of_keys[inner] = name.start_mark.line + 1
                walk(value, inner)

    try:
        root = _compose(path, LINES_LOADER)
        if root is not None:
            _measure(root, path)
    except Her2Error:
        return lines
    walk(root, ())
    return lines
