"""Photographs with free licences, from Debian packages: what synthetic scenes are papered with.

Most are under share-alike licences, so none ships with this package: they are fetched by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pixloc_ros.datasets.text import write_text
from pixloc_ros.errors import InputError

# package: folders of photographs in it
PACKAGES = {
    "gnome-backgrounds": ("usr/share/backgrounds",),
    "lxqt-themes": ("usr/share/lxqt/wallpapers",),
    "mate-backgrounds": ("usr/share/backgrounds/mate",),
    "opencv-doc": ("usr/share/doc/opencv-doc/examples",),
    "plasma-workspace-wallpapers": ("usr/share/wallpapers",),
    "python-skimage-doc": ("usr/share/doc/python-skimage-doc/html/_images",),
    "supertuxkart-data": (
        "usr/share/games/supertuxkart/data/textures",
        "usr/share/games/supertuxkart/data/tracks",
        "usr/share/games/supertuxkart/data/library",
    ),
    "ukui-wallpapers": ("usr/share/backgrounds",),
}
MANIFEST = "manifest.json"
TILE = 384
TILES_PER_IMAGE = 10
JPEG_QUALITY = 85
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

Progress = Callable[[str], None]


class PhotographError(InputError):
    """Photographs that cannot be fetched or read, with the reason in one line."""


def _run(command: list[str], folder: Path) -> str:
    if shutil.which(command[0]) is None:
        raise PhotographError(f"{command[0]} is needed to fetch Debian packages: not found")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [x for x in done.stderr.strip().splitlines() if x.startswith("E:")] or ["failed"]
        raise PhotographError(f"{' '.join(command)}: {lines[-1]}")
    return done.stdout


def is_photograph(tile: np.ndarray) -> bool:
    """Whether a tile has the texture of a photograph, not that of a drawing or a plot."""
    gray = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(gray.ravel(), minlength=256) / gray.size
    if shares.max() > 0.15 or gray.std() < 14:
        return False
    detail = np.abs(cv2.Laplacian(cv2.resize(gray, (128, 128), interpolation=cv2.INTER_AREA), 3))
    return bool((detail > 6).mean() > 0.25)


def tiles_of(image: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Square crops of an image at several scales, photographs only."""
    shortest = min(image.shape[:2])
    if shortest < TILE // 2:
        return
    count = int(np.clip(image.shape[0] * image.shape[1] // (2 * TILE * TILE), 1, TILES_PER_IMAGE))
    for number in range(count):
        # the first tile shows all there is of the shorter side, the others less
        side = shortest if number == 0 else int(random.uniform(min(TILE, shortest), shortest + 1))
        top = int(random.integers(image.shape[0] - side + 1))
        left = int(random.integers(image.shape[1] - side + 1))
        crop = image[top : top + side, left : left + side]
        tile = cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_AREA)
        if is_photograph(tile):
            yield tile


def fetch_photographs(output: Path, progress: Progress = lambda _: None) -> int:
    """Download the packages, cut their photographs into tiles and say where each came from.

    output: a new or empty folder for tiles (JPEG), the packages' copyright files and a
    manifest with package, version, file and digest of each tile. Returns the number of tiles.
    The same packages give the same tiles. Raises PhotographError.
    """
    if output.exists() and any(output.iterdir()):
        raise PhotographError(f"{output}: not empty; the photographs need a folder of their own")
    output.mkdir(parents=True, exist_ok=True)
    packages: list[dict[str, str]] = []
    tiles: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        for package, folders in PACKAGES.items():
            progress(f"fetching {package}")
            work = Path(scratch) / package
            work.mkdir()
            _run(["apt-get", "download", package], work)
            archive = next(work.glob("*.deb"))
            version = _run(["dpkg-deb", "-f", archive.name, "Version"], work).strip()
            _run(["dpkg-deb", "-x", archive.name, "."], work)
            notice = work / "usr/share/doc" / package / "copyright"
            licences = f"{package}.copyright"
            shutil.copyfile(notice, output / licences)
            packages.append({"package": package, "version": version, "licences": licences})
            for folder in folders:
                tiles += _cut(work, folder, package, output, len(tiles))
            shutil.rmtree(work)
    if not tiles:
        raise PhotographError("no photograph was found in the packages")
    text = json.dumps({"packages": packages, "tiles": tiles}, indent=1)
    write_text(output / MANIFEST, text + "\n")
    return len(tiles)


def _cut(work: Path, folder: str, package: str, output: Path, first: int) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = []
    for path in sorted((work / folder).rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.is_symlink() or not path.is_file():
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.dtype != np.uint8:
            continue
        if image.shape[2] == 4 and image[..., 3].mean() < 250:
            continue  # mostly cut out, a decal
        rgb = np.ascontiguousarray(image[..., 2::-1])
        file = str(path.relative_to(work))
        random = np.random.default_rng(list(file.encode()))
        for tile in tiles_of(rgb, random):
            name = f"{first + len(entries):05d}.jpg"
            _, encoded = cv2.imencode(
                ".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )
            (output / name).write_bytes(encoded.tobytes())
            digest = hashlib.sha256(encoded.tobytes()).hexdigest()
            entries.append({"tile": name, "package": package, "file": file, "sha256": digest})
    return entries


def read_photographs(folder: str | os.PathLike[str]) -> list[np.ndarray]:
    """The tiles of a folder that `fetch_photographs` filled, or any folder of images, as RGB.

    Raises PhotographError when there is none or one cannot be read.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise PhotographError(
            f"{folder}: no photographs; fetch them with: preprocess photographs --output {folder}"
        )
    images = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise PhotographError(f"{path}: not a readable image")
        images.append(np.ascontiguousarray(image[..., ::-1]))
    return images


def sample_photographs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The few that come with scikit-image: pictures and surface materials, as RGB uint8.

    Raises PhotographError when it is not installed.
    """
    try:
        from skimage import data
    except ImportError:
        raise PhotographError(
            "the photographs of scikit-image are needed: pip install scikit-image"
        ) from None

    def rgb(name: str) -> np.ndarray:
        image = np.asarray(getattr(data, name)())
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)

    pictures = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "moon", "camera")
    return [rgb(n) for n in pictures], [rgb(n) for n in ("brick", "grass", "gravel")]
