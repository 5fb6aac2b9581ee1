"""`preprocess`: what training reads, from public data sets, maps and packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.cli.options import Parser
from pixloc_ros.datasets.pair_files import SceneFile, scene_of_model, write_scene
from pixloc_ros.datasets.photographs import fetch_photographs
from pixloc_ros.datasets.training_scenes import cmu_scene, megadepth_scene
from pixloc_ros.errors import InputError
from pixloc_ros.mapping import PixMap, read_colmap

KINDS = ("megadepth", "cmu", "colmap", "map", "photographs")


def make_parser() -> Parser:
    parser = Parser("preprocess", "Write the scene files that training reads.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "names", nargs="*", help="scenes, numbers of slices, a model folder or a map file"
    )
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument(
        "--root", metavar="DIR", default="datasets", help="of megadepth/ or CMU/ (datasets)"
    )
    parser.add_argument(
        "--sfm", metavar="DIR", default="outputs/hloc", help="of CMU/slice<N>/ (outputs/hloc)"
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    output, root = Path(given.output), Path(given.root)
    if given.kind == "photographs":
        count = fetch_photographs(output, print)
        print(f"{output}: {count} tiles; packages, licences and files are in its manifest")
        return 0
    names = given.names
    if given.kind == "megadepth" and not names:
        scenes = root / "megadepth" / "Undistorted_SfM"
        names = sorted(p.name for p in scenes.glob("*") if (p / "sparse").is_dir())
        if not names:
            raise InputError(f"{scenes}: no scenes")
    if not names:
        raise InputError(f"preprocess {given.kind}: name what to read")
    output.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    made: dict[Path, str] = {}
    for name in names:
        try:
            scene, stem = _read(given.kind, name, root, Path(given.sfm))
        except InputError as error:
            # one bad scene of many costs that scene only
            failed.append(str(error))
            print(f"left out: {error}")
            continue
        file = output / f"{stem}.npz"
        if file in made:
            failed.append(f"{name}: {file} is that of {made[file]} already; use another --output")
            print(f"left out: {failed[-1]}")
            continue
        made[file] = name
        if file.exists():
            print(f"{file}: replaced")
        write_scene(scene, file)
        pairs = int((scene.overlap > 0.3).sum() - (scene.overlap.diagonal() > 0.3).sum())
        print(
            f"{file}: {len(scene.names)} images, {len(scene.points)} points, "
            f"{pairs} pairs with an overlap above 0.3"
        )
    if failed:
        raise InputError(f"{len(failed)} of {len(names)} left out, the first: {failed[0]}")
    return 0


def _read(kind: str, name: str, root: Path, sfm: Path) -> tuple[SceneFile, str]:
    if kind == "megadepth":
        return megadepth_scene(root, name), name
    if kind == "cmu":
        if not name.isdecimal():
            raise InputError(f"slice {name!r}: a number")
        return cmu_scene(root, sfm, int(name)), f"slice{name}"
    if kind == "map":
        with PixMap(name) as pixmap:
            return scene_of_model(pixmap.model), Path(name).name.removesuffix(".pixmap.h5")
    return scene_of_model(read_colmap(name)), Path(name).resolve().parent.name
