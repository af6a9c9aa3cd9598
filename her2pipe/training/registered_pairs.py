"""H&E and IHC images of the same place: read or drawn, cut into tiles, packed into a store."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from her2pipe.config import Scanner, StainSettings, SynthesiseSettings, TileSettings
from her2pipe.errors import Her2Error
from her2pipe.stain.base import estimate
from her2pipe.stain.profile import Profile
from her2pipe.store import PatchMetadata, write_patches
from her2pipe.training import dab_regression

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SYNTHETIC = "synthetic"
# Drawn pairs: small fields at 20x.
FIELD = SynthesiseSettings(width_um=400, height_um=400)
SCANNER = Scanner(objective=20)
AHEAD = 4  # pairs read per thread before they are wanted


class Source(Protocol):
    """Where pairs come from."""

    names: list[str]  # one per pair
    alone: dict[str, str]  # files without a partner, and which one they lack

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one pair, H&E and IHC, (H, W, 3) uint8 each; `Unusable` if it is none."""

    def divide(self, fraction: float, seed: int) -> list[str]:
        """Return the side of each pair, `train` or `validation`."""


class Unusable(Exception):  # noqa: N818 - a fact about a file, which is recorded
    """A pair that cannot be used, and why."""


class Folder:
    """Pairs in files: equal names in `HE` and `IHC`, or in `HE/train` and `IHC/train` (BCI).

    Raises
    ------
    Her2Error
        When the folder does not look like that, or holds no pair.
    """

    def __init__(self, path: str | Path):
        self._folders = _sides(Path(path))
        he, ihc = (
            {p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES}
            for folder in self._folders
        )
        self.names = sorted(he & ihc)
        lacking = dict.fromkeys(he - ihc, "no IHC image of this name")
        lacking |= dict.fromkeys(ihc - he, "no H&E image of this name")
        self.alone = dict(sorted(lacking.items()))
        if not self.names:
            raise Her2Error(
                f"no image of the {len(he)} in {self._folders[0].name} has a partner of the same"
                f" name among the {len(ihc)} of the other folder",
                f"{self._folders[0]} and {self._folders[1]}",
                "give registered pairs equal names, as BCI does",
            )

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode one pair."""
        he, ihc = (_decode(folder / self.names[number]) for folder in self._folders)
        if he.shape != ihc.shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (he, ihc))
            raise Unusable(f"H&E and IHC differ in size: {sizes} px")
        return he, ihc

    def divide(self, fraction: float, seed: int) -> list[str]:
        """Divide the pairs as `split` does."""
        return split(self.names, fraction, seed)


def _sides(folder: Path) -> tuple[Path, Path]:
    """Find the folders of H&E and IHC; of a published data set those of its training part."""
    for part in ("train", "."):
        folders = folder / "HE" / part, folder / "IHC" / part
        if all(each.is_dir() for each in folders):
            return folders
    raise Her2Error(
        "the folder of pairs has no folders HE and IHC",
        str(folder),
        "put H&E images into HE and IHC images of the same place, with equal names, into IHC",
    )


def _decode(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged file
        reason = " ".join(str(error).replace(str(path), "the file").split())
        raise Unusable(f"the {path.parts[-2]} image cannot be read: {reason}") from None


class Drawn:
    """Synthetic pairs, of severities spread evenly from 0 to 4."""

    def __init__(self, count: int, seed: int):
        self.names = [f"synthetic-{number:04}" for number in range(count)]
        self.alone: dict[str, str] = {}
        random = np.random.default_rng(seed)
        self._severities = random.permutation(4 * (np.arange(count) + 0.5) / count)
        self._seeds = random.integers(0, 1 << 31, count)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw one pair."""
        from her2pipe.synthetic.ihc import draw_pair

        seed, severity = int(self._seeds[number]), float(self._severities[number])
        pair = draw_pair(seed, severity, FIELD, SCANNER)
        return pair.he.image, pair.ihc.image

    def divide(self, fraction: float, seed: int) -> list[str]:
        """Keep every n-th by severity for validation: a few pairs show all severities so."""
        every = max(round(1 / fraction), 2)
        rank = self._severities.argsort().argsort()
        return np.where(rank % every == seed % every, "validation", "train").tolist()


def split(names: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Divide pairs between `train` and `validation`, those with one number in their names as one.

    Parameters
    ----------
    names : sequence of str
        File names, as `00123_train_2+.png`; the first number in a name tells its group.
    fraction : float
        Share of the groups kept for validation: at least one, if there are two.
    seed : int
    """
    groups = [group(name) for name in names]
    every = sorted(set(groups))
    random = np.random.default_rng(seed)
    count = min(max(round(fraction * len(every)), 1), len(every) - 1)
    kept = {every[i] for i in random.choice(len(every), count, replace=False)}
    return ["validation" if one in kept else "train" for one in groups]


def group(name: str) -> str:
    """Return the first number in a file's stem, or the stem if there is none."""
    number = re.search(r"\d+", Path(name).stem)
    return number.group() if number else Path(name).stem


class Tile(NamedTuple):
    """One place of a pair."""

    he: bytes  # JPEG
    x: int  # corner, px of the pair
    y: int
    variance: float  # grey-level variance of the H&E
    dab: np.ndarray  # float64 (4,), `density.STATISTICS`, OD


@dataclass(frozen=True)
class Cutter:
    """Cuts pairs into tiles, and leaves out what tiling a slide would leave out.

    The stains of an H&E image are estimated as those of the slides were whose patches the encoder
    is going to see, so these settings come from the slides' patch stores.
    """

    pair_px: int
    input_px: int
    stain: StainSettings
    variance_min: float

    @classmethod
    def like(cls, store, pair_px: int, input_px: int) -> Cutter:
        """Take over the settings a patch store was tiled with."""
        settings = json.loads(store.metadata.settings)
        stain = {k: v for k, v in settings.items() if k in StainSettings.model_fields}
        variance_min = settings.get("variance_min", TileSettings().variance_min)
        return cls(pair_px, input_px, StainSettings(**stain), variance_min)

    def __call__(self, source: Source, number: int) -> tuple[Profile | None, list[Tile], int, str]:
        """Read one pair: stains of its H&E, tiles with tissue, number of all tiles, and why none.

        Tiles do not overlap; what is left at the right and lower edge is not used.
        """
        try:
            he, ihc = source.read(number)
        except Unusable as reason:
            return None, [], 0, str(reason)
        side = self.pair_px
        if min(he.shape[:2]) < side:
            return None, [], 0, f"{he.shape[1]} x {he.shape[0]} px, smaller than a tile of {side}"
        amount, tiles, count = dab_regression.dab(ihc), [], 0
        for y in range(0, he.shape[0] - side + 1, side):
            for x in range(0, he.shape[1] - side + 1, side):
                place = slice(y, y + side), slice(x, x + side)
                count += 1
                if tile := self._tile(he[place], amount[place], x, y):
                    tiles.append(tile)
        if not tiles:
            return None, [], count, f"no tile with a grey-level variance of {self.variance_min:g}"
        return estimate(np.ascontiguousarray(he), self.stain), tiles, count, ""

    def _tile(self, he: np.ndarray, amount: np.ndarray, x: int, y: int) -> Tile | None:
        import cv2
        import simplejpeg

        variance = float(cv2.cvtColor(np.ascontiguousarray(he), cv2.COLOR_RGB2GRAY).var())
        if variance < self.variance_min:
            return None
        if self.pair_px > self.input_px:
            he = cv2.resize(he, (self.input_px,) * 2, interpolation=cv2.INTER_AREA)
        he = np.ascontiguousarray(he)
        jpeg = simplejpeg.encode_jpeg(he, quality=95, colorsubsampling="444")
        return Tile(jpeg, x, y, variance, dab_regression.statistics(amount))


@dataclass(frozen=True, eq=False)
class Packed:
    """The tiles of all pairs, packed into a store."""

    profiles: list[Profile]  # stains of each pair used
    items: dict[str, np.ndarray]  # side to (N, 3) int: 0, tile, profile
    dab: dict[str, np.ndarray]  # side to (N, 4) float64, OD
    manifest: list[dict[str, Any]]  # every pair and file: its side, tiles, exclusion_reason


def pack(
    source: Source, sides: Sequence[str], cutter: Cutter, path: str | Path, threads: int = 1
) -> Packed:
    """Cut all pairs and write their H&E tiles into one patch store.

    Each image is read once, by threads, and few are held at a time.

    Raises
    ------
    Her2Error
        When a side is left without tiles.
    """
    profiles: list[Profile] = []
    manifest: list[dict[str, Any]] = []
    items: dict[str, list] = {"train": [], "validation": []}
    dab: dict[str, list] = {"train": [], "validation": []}
    with write_patches(path) as writer:
        cut = _ahead(source, cutter, threads)
        for name, side, pair in zip(source.names, sides, cut, strict=True):
            profile, tiles, count, reason = pair
            row = {"pair": name, "group": group(name), "side": side, "tiles": count}
            manifest.append(row | {"used": len(tiles), "exclusion_reason": reason})
            if profile is None:
                continue
            for tile in tiles:
                items[side].append((0, len(writer), len(profiles)))
                dab[side].append(tile.dab)
                writer.add(tile.he, tile.x, tile.y, tile.variance)
            profiles.append(profile)
        px = min(cutter.pair_px, cutter.input_px)
        writer.finish(
            PatchMetadata(
                slide="pairs",
                view=str(cutter.pair_px),
                patch_size=px,
                patch_size_level0=cutter.pair_px,
            )
        )
    manifest += [
        {"pair": name, "exclusion_reason": reason} for name, reason in source.alone.items()
    ]
    for side, numbers in items.items():
        if not numbers:
            reasons = [
                f"{row['pair']}: {row['exclusion_reason']}"
                for row in manifest
                if row["exclusion_reason"]
            ]
            raise Her2Error(
                f"no pair of the {side} side can be used"
                + (f", among others not {reasons[0]}" if reasons else ""),
                "option --pairs",
                "give more pairs of images, of H&E with tissue, at least --pair-px in size",
            )
    return Packed(
        profiles,
        {side: np.array(numbers) for side, numbers in items.items()},
        {side: np.array(values) for side, values in dab.items()},
        manifest,
    )


def _ahead(source: Source, cutter: Cutter, threads: int) -> Iterator:
    """Cut pairs in order, some ahead of need."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for number in range(len(source.names)):
            waiting.append(pool.submit(cutter, source, number))
            if len(waiting) > AHEAD * max(1, threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
