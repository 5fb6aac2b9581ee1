"""Images whose poses are known: points by matching and triangulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.datasets import read_poses
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.frame import LEAST
from pixloc_ros.mapping.sfm import SfmWorkspace, adjust, apart_by_poses, prepare, unfit
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.source import Source, Work, claim
from pixloc_ros.mapping.sparse_model import SparseModel, read_colmap
from pixloc_ros.sensors import ImageError, read_image, require_size


@dataclass(frozen=True)
class FromPoses:
    """Images below a folder, a file of their poses, and the camera of them all.

    known: features and matches of another program. adjusted: poses are refined.
    """

    poses: Path
    images: Path
    camera: Camera
    known: HlocFeatures | None = None
    adjusted: bool = False

    def build(self, work: Work) -> Source:
        """Raises InputError."""
        left_out = LeftOut("line")
        poses = read_poses(self.poses, left_out)
        work.say_left_out(left_out)
        cameras = dict.fromkeys(poses, self.camera)
        model = triangulate(work, self.images, cameras, poses, self.known, self.adjusted)
        return Source(model, self.images, {"source": "poses", "name": self.poses.name})


def triangulate(
    work: Work,
    images: Path,
    cameras: Mapping[str, Camera],
    poses: Mapping[str, Pose],
    known: HlocFeatures | None,
    adjusted: bool,
) -> SparseModel:
    """Points of images with known cameras and cam_from_map poses, by name.

    Images that are missing, or not of their camera's size, are left out, unless they are half
    of them. Raises InputError.
    """
    names = usable(work, images, cameras, sorted(poses), unfit)
    cameras = {name: cameras[name] for name in names}
    claim(work.folder)
    workspace = SfmWorkspace(work.folder, images, names, cameras)
    numbers = {name: poses[name].matrix().tolist() for name in names}
    facts = {"poses": numbers, "known": known.identity() if known else None}
    prepared = prepare(workspace, facts)
    read = known.read(names, work) if known else None
    with work.stages("matching"):
        matched = prepared.match(lambda: apart_by_poses([poses[name] for name in names]), read)
    with work.stages("triangulating"):
        model = matched.triangulate(poses)
    work.say(matched.registration(model, len(poses) - len(names)).as_text())
    if adjusted:
        with work.stages("adjusting"):
            adjust(model)
        error = model.compute_mean_reprojection_error()
        work.say(f"after bundle adjustment {error:.2f} px")
    return read_colmap(model)


def usable(
    work: Work,
    images: Path,
    cameras: Mapping[str, Camera],
    names: list[str],
    unfit: Callable[[str], str] = lambda name: "",
) -> list[str]:
    """Those of the images that can be read and are of their camera's size.

    unfit: why a name cannot be used, or an empty string. Raises InputError where less than
    `LEAST`, or half of them, are left.
    """
    if not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    left_out = LeftOut("image")
    kept = []
    for name in work.bar(names, total=len(names), unit="image", desc="reading"):
        odd = unfit(name)
        reason = (odd, name) if odd else unusable(images, name, cameras[name])
        if reason:
            left_out.add(*reason)
        else:
            kept.append(name)
    work.say_left_out(left_out)
    if len(kept) < LEAST or 2 * len(kept) < len(names):
        why = f": {left_out.most}" if left_out else ""
        raise InputError(
            f"{images}: {len(kept)} of {len(names)} images can be used, {LEAST} and half of them "
            f"are needed{why}"
        )
    return kept


def unusable(images: Path, name: str, camera: Camera) -> tuple[str, str] | None:
    """Why an image cannot be used, as a reason and where; None for one that can."""
    try:
        image: np.ndarray = read_image(images / name)
        require_size(camera, image.shape[1], image.shape[0], str(images / name))
    except ImageError as error:
        missing = not (images / name).is_file()
        return ("not there" if missing else "not readable"), str(error)
    except InputError as error:
        return "of another size than their camera", str(error)
    return None
