"""Where the public data is published, and where the original project keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixloc_ros.datasets.benchmarks import LAYOUTS

ROOTS = {
    "pixloc": "https://cvg-data.inf.ethz.ch/pixloc_CVPR2021/",
    "7scenes": "http://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8/",
    "cambridge": "https://www.repository.cam.ac.uk/bitstream/handle/1810/",
    "seasons": "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/",
    "drive": "https://drive.usercontent.google.com/download?export=download&confirm=t&id=",
}
"""Servers by name; `download --root NAME=URL` takes a mirror instead."""

CMU_TRAINING = tuple(str(n) for n in (*range(7, 13), *range(22, 26)))


@dataclass(frozen=True)
class Source:
    """One thing to get. root: of `ROOTS`; path: there, a folder if it ends in `/`.

    area: `datasets`, `hloc` or `training`, folder: in it. name: of the file where its address
    does not end in it. unpacked: archives are. without: folders that are left out.
    """

    root: str
    path: str
    area: str
    folder: str
    name: str = ""
    unpacked: bool = False
    without: tuple[str, ...] = ()


_CAMBRIDGE = {
    "KingsCollege": "251342",
    "GreatCourt": "251291",
    "OldHospital": "251340",
    "ShopFacade": "251336",
    "StMarysChurch": "251294",
}

SELECTIONS = (
    "7Scenes",
    "Cambridge",
    "Aachen",
    "CMU",
    "RobotCar",
    "MegaDepth",
    "checkpoints",
)


def sources(selection: str, slices: Sequence[str], training: bool) -> list[Source]:
    """What a selection consists of. slices: of CMU, all where none are given. training: also
    what the original trains on (CMU, MegaDepth).
    """
    found: list[Source] = []
    if selection == "7Scenes":
        found = [
            Source("7scenes", f"{scene}.zip", "datasets", "7Scenes", unpacked=True)
            for scene in LAYOUTS["7Scenes"].parts
        ]
        truth = "7scenes_sfm_triangulated.zip"
        identity = "1cu6KUR7WHO7G4EO49Qi3HEKU6n_yYDjb"
        found.append(Source("drive", identity, "datasets", "7Scenes", truth, unpacked=True))
        found.append(Source("pixloc", "7Scenes/", "hloc", "7Scenes"))
    elif selection == "Cambridge":
        found = [
            Source("cambridge", f"{number}/{scene}.zip", "datasets", "Cambridge", unpacked=True)
            for scene, number in _CAMBRIDGE.items()
        ]
        truth = "CambridgeLandmarks_Colmap_Retriangulated_1024px.zip"
        identity = "1esqzZ1zEQlzZVic-H32V6kkZvc4NeS15"
        found.append(Source("drive", identity, "datasets", "Cambridge", truth, unpacked=True))
        found.append(Source("pixloc", "Cambridge-Landmarks/", "hloc", "Cambridge"))
    elif selection == "Aachen":
        place = "Aachen-Day-Night"
        found = [
            Source("seasons", f"{place}/queries/", "datasets", "Aachen/queries"),
            Source("seasons", f"{place}/images/", "datasets", "Aachen/images", unpacked=True),
            Source("pixloc", f"{place}/", "hloc", "Aachen"),
        ]
    elif selection == "CMU":
        place = "Extended-CMU-Seasons"
        tested = LAYOUTS["CMU"].parts
        wanted = list(slices) or [*tested, *(CMU_TRAINING if training else ())]
        for number in wanted:
            path = f"{place}/slice{number}.tar"
            found.append(Source("seasons", path, "datasets", "CMU", unpacked=True))
            if number in tested:
                path = f"{place}/slice{number}/"
                found.append(Source("pixloc", path, "hloc", f"CMU/slice{number}"))
        if training:
            path = "training/cmu_pixloc_training.tar.gz"
            found.append(Source("pixloc", path, "datasets", "", unpacked=True))
    elif selection == "RobotCar":
        place = "RobotCar-Seasons"
        found = [
            Source(
                "seasons",
                f"{place}/",
                "datasets",
                "RobotCar",
                unpacked=True,
                without=("3D-models/",),
            ),
            Source("pixloc", f"{place}/", "hloc", "RobotCar"),
        ]
    elif selection == "MegaDepth":
        path = "training/megadepth_pixloc_training.tar.gz"
        found = [Source("pixloc", path, "datasets", "", unpacked=True)] if training else []
    elif selection == "checkpoints":
        found = [Source("pixloc", "checkpoints/", "training", "")]
    return found
