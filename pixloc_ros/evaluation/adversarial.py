"""What an image must not be believed for: how often a localizer is sure of a wrong pose.

`python -m pixloc_ros.evaluation.adversarial --map place.pixmap.h5 --queries FOLDER --near 0.1 5`

FOLDER holds `images/NAME`, `queries_with_intrinsics.txt` (hloc) and `gt_poses.txt`. Each query is
localized as it is, and made wrong in every way of `ATTACKS`. Images of other places come from
`--foreign`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from pixloc_ros.datasets import read_queries
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.robustness import is_near, known_queries
from pixloc_ros.features import open_network, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import LocalizationResult, Localizer, LocalizerOptions, Prior
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override

Shown = tuple[np.ndarray, Camera]
"""An image (H, W, 3) RGB uint8, and the camera that it is said to come from."""


@dataclass(frozen=True)
class Attack:
    """A way to make a query wrong.

    shows: whether the image still comes from where the query was taken, so that its true pose may
    be believed. Where it does not, no pose is right.
    """

    change: Callable[[np.ndarray, Camera, np.random.Generator], Shown]
    shows: bool = True


def _focal(factor: float) -> Attack:
    def change(image: np.ndarray, camera: Camera, _: np.random.Generator) -> Shown:
        return image, replace(camera, focal=camera.focal * factor)

    return Attack(change)


def _centre(x: float, y: float) -> Attack:
    """Move the principal point by shares of the image's width and height."""

    def change(image: np.ndarray, camera: Camera, _: np.random.Generator) -> Shown:
        moved = camera.centre + camera.size * torch.tensor((x, y)).to(camera.size)
        return image, replace(camera, centre=moved)

    return Attack(change)


def _mirrored(image: np.ndarray, camera: Camera, _: np.random.Generator) -> Shown:
    return np.ascontiguousarray(image[:, ::-1]), camera


def _tiles(count: int) -> Attack:
    """Cut the image into count x count tiles and shuffle them, so that none stays in its place:
    what stays would be the place.
    """

    def change(image: np.ndarray, camera: Camera, random: np.random.Generator) -> Shown:
        height, width = (size // count for size in image.shape[:2])
        cut = image.copy()
        corners = [(y * height, x * width) for y in range(count) for x in range(count)]
        shuffled = random.permutation(len(corners))
        while (shuffled == np.arange(len(corners))).any():
            shuffled = random.permutation(len(corners))
        for (y, x), k in zip(corners, shuffled, strict=True):
            v, u = corners[k]
            cut[y : y + height, x : x + width] = image[v : v + height, u : u + width]
        return cut, camera

    return Attack(change, shows=False)


def _covered(share: float) -> Attack:
    """Dark figures stand before the camera until a share of the image is hidden."""

    def change(image: np.ndarray, camera: Camera, random: np.random.Generator) -> Shown:
        height, width = image.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        while mask.mean() < share:
            x, wide = random.uniform(0, width), random.uniform(0.1, 0.25) * width
            top = random.uniform(0, 0.4) * height
            body = ((x, 0.5 * (top + height)), (wide, 1.2 * (height - top)), random.normal(0, 5))
            cv2.ellipse(mask, body, 1, -1)
        colour = random.integers(10, 70, 3)
        noisy = (colour + random.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
        return np.where(mask[..., None] > 0, noisy, image), camera

    return Attack(change)


def _blurred(share: float) -> Attack:
    """The camera turns while it exposes: a line as long as a share of the width."""

    def change(image: np.ndarray, camera: Camera, random: np.random.Generator) -> Shown:
        length = max(int(share * image.shape[1]), 3) | 1
        line = np.zeros((length, length), np.float32)
        line[length // 2] = 1.0
        turn = cv2.getRotationMatrix2D((length // 2, length // 2), random.uniform(0, 180), 1.0)
        kernel = cv2.warpAffine(line, turn, (length, length))
        return cv2.filter2D(image, -1, kernel / kernel.sum()), camera

    return Attack(change)


ATTACKS: dict[str, Attack] = {
    "as it is": Attack(lambda image, camera, _: (image, camera)),
    **{f"focal x{factor:g}": _focal(factor) for factor in (0.7, 0.8, 0.9, 1.1, 1.25, 1.4)},
    "centre 10 % right": _centre(0.1, 0.0),
    "centre 10 % down": _centre(0.0, 0.1),
    "centre 10 % both": _centre(-0.1, -0.1),
    "mirrored": Attack(_mirrored, shows=False),
    "4x4 tiles": _tiles(4),
    "3x3 tiles": _tiles(3),
    "covered 50 %": _covered(0.5),
    "covered 75 %": _covered(0.75),
    "blurred 3 %": _blurred(0.03),
    "blurred 6 %": _blurred(0.06),
}

FAR = 5.0
"""A bad prior is this many times further away than what still counts as near."""


@dataclass(frozen=True)
class Attacked:
    """Answers to one attack. right: believed near the truth; wrong: believed elsewhere."""

    attack: str
    images: int
    right: int
    wrong: int


def moved(pose: Pose, near: tuple[float, float], random: np.random.Generator) -> Pose:
    """A pose FAR from another: `near` gives what still counts as near, in metres and degrees."""
    away = random.normal(size=6)
    away[:3] *= FAR * near[0] / np.linalg.norm(away[:3])
    away[3:] *= np.deg2rad(FAR * near[1]) / np.linalg.norm(away[3:])
    return pose.perturb(torch.from_numpy(away).to(pose.translation))


class Attacker:
    """Localizes each query in every way, and counts what is believed.

    near: metres and degrees within which an answer is right.
    """

    def __init__(self, localizer: Localizer, near: tuple[float, float]) -> None:
        self.localizer, self.near = localizer, near
        self._counts: dict[str, list[int]] = {}

    def foreign(self, image: np.ndarray, camera: Camera) -> None:
        """Localize an image of another place."""
        self._count("another place", self.localizer.localize(image, camera), None)

    def query(self, image: np.ndarray, camera: Camera, truth: Pose, seed: int) -> None:
        """Localize an image of the place in every way, also from a good and a bad prior."""
        for name, attack in ATTACKS.items():
            shown, said = attack.change(image, camera, np.random.default_rng(seed))
            answer = self.localizer.localize(shown, said)
            self._count(name, answer, truth if attack.shows else None)
        answer = self.localizer.localize(image, camera, Prior(truth))
        self._count("from a good prior", answer, truth)
        far = moved(truth, self.near, np.random.default_rng(seed))
        answer = self.localizer.localize(image, camera, Prior(far), search=False)
        self._count("bad prior alone", answer, truth)

    def _count(self, attack: str, answer: LocalizationResult, truth: Pose | None) -> None:
        counts = self._counts.setdefault(attack, [0, 0, 0])
        near = truth is not None and is_near(answer.cam_from_map, truth, self.near)
        counts[0] += 1
        counts[1] += answer.ok and near
        counts[2] += answer.ok and not near

    def rows(self) -> Iterator[Attacked]:
        for attack, counts in self._counts.items():
            yield Attacked(attack, *counts)


def _as_text(rows: Sequence[Attacked]) -> str:
    lines = [f"{'':18} {'images':>7} {'right':>6} {'wrong':>6}"]
    lines += [f"{r.attack:18} {r.images:7} {r.right:6} {r.wrong:6}" for r in rows]
    total = sum(row.images for row in rows), sum(row.wrong for row in rows)
    return "\n".join([*lines, f"{total[0]} images, {total[1]} believed elsewhere"])


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pixloc_ros.evaluation.adversarial",
        description="Localize queries that were made wrong, and count what is believed.",
    )
    parser.add_argument("--map", required=True, metavar="FILE")
    parser.add_argument("--queries", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--near", nargs=2, type=float, default=(0.1, 5.0), metavar=("METRES", "DEGREES")
    )
    parser.add_argument(
        "--foreign", nargs="*", type=Path, default=(), metavar="DIR", help="queries elsewhere"
    )
    parser.add_argument("--json", metavar="FILE", help="the table as JSON")
    parser.add_argument("--weights", metavar="FILE", help="network checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="localizer settings")
    given = parser.parse_intermixed_args(arguments)
    try:
        return _report(given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _report(given: argparse.Namespace) -> int:
    queries, truth = known_queries(given.queries)
    foreign = {f: read_queries(f / "queries_with_intrinsics.txt") for f in given.foreign}
    options = override(LocalizerOptions(), given.overrides)
    with PixMap(given.map) as pixmap:
        localizer = Localizer(pixmap, open_network(given.weights), options)
        attacker = Attacker(localizer, tuple(given.near))
        for folder, others in foreign.items():
            for name, camera in tqdm(others.items(), unit="image", desc=folder.name):
                attacker.foreign(read_image(folder / "images" / name), camera)
        for seed, (name, camera) in enumerate(tqdm(queries.items(), unit="query")):
            image = read_image(given.queries / "images" / name)
            attacker.query(image, camera, truth[name], seed)
    table = list(attacker.rows())
    print(_as_text(table))
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
