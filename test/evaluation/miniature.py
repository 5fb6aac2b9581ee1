"""Miniature copies of the public benchmarks, in the layouts and formats of the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from pixloc_ros.datasets import write_poses

QUERIES = (1, 4, 7)
PARAMS = {"plain": "PINHOLE 640 480 520 520 320 240", "square": (1024, 832.0, 512.0, 384.0)}


@dataclass(frozen=True)
class Miniature:
    """The folders that `benchmark` takes. truth: of the queries, by their names."""

    name: str
    part: str
    data: Path
    outputs: Path
    truth: dict

    def arguments(self, results):
        return [
            *("benchmark", self.name, "--dataset", self.data, "--dumps", self.outputs),
            *("--eval_dir", results, "--maps", results / "maps"),
        ]


REFERENCE = {
    "7Scenes": "seq-01/frame-{:06d}.color.png",
    "Cambridge": "seq1/frame{:05d}.png",
    "Aachen": "db/{}.jpg",
    "Aachen-v1.1": "db/{}.jpg",
    "own": "mapping/{:04d}.png",
    "CMU": "img_{:05d}_c0_1303398475046031us.jpg",
    "RobotCar": "overcast-reference/rear/14174{:08d}.jpg",
}
QUERY = {
    "7Scenes": "seq-03/frame-{:06d}.color.png",
    "Cambridge": "seq3/frame{:05d}.png",
    "Aachen": "query/day/nexus4/IMG_{:04d}.jpg",
    "Aachen-v1.1": "query/night/nexus5x/IMG_{:04d}.jpg",
    "own": "queries/{:04d}.png",
    "CMU": "img_{:05d}_c1_1303398474779439us.jpg",
    "RobotCar": "sun/left/14256{:08d}.jpg",
}
PART = {"7Scenes": "heads", "Cambridge": "ShopFacade", "CMU": "3", "RobotCar": "sun"}


def make(name, room, root):
    """Copy a rendered room into the layout of a benchmark."""
    from pixloc_ros.datasets.benchmarks import LAYOUTS, Roots, parts_of

    layout, part = LAYOUTS[name], PART.get(name, "")
    data, outputs = root / "datasets" / name, root / "outputs" / name
    where = parts_of(layout, Roots(data, outputs, root / "results"), [part] if part else [])[0]
    model = pycolmap.Reconstruction(room.root / "sparse")
    for image in model.images.values():
        renamed = REFERENCE[name].format(image.image_id)
        _copy(room.root / "images" / image.name, where.reference_images / renamed)
        image.name = renamed
    where.sfm.mkdir(parents=True)
    model.write_binary(str(where.sfm))
    lines, truth = [], {}
    for number in QUERIES:
        frame = room.sequence.frames[number]
        renamed = QUERY[name].format(number)
        _copy(room.sequence.images / frame.name, where.query_images / renamed, name == "RobotCar")
        lines.append(f"{renamed} {PARAMS['plain']}")
        truth[renamed] = frame.truth
    where.pairs.parent.mkdir(parents=True, exist_ok=True)
    near = sorted(image.name for image in model.images.values())
    where.pairs.write_text("".join(f"{q} {r}\n" for q in truth for r in near[:10]))
    if name == "CMU":
        (data / "intrinsics.txt").write_text(
            "# camera model width height fx fy cx cy\n\n"
            + "".join(f"c{i} {PARAMS['plain']}\n" for i in (0, 1))
        )
        (data / "slice3" / "test-images-slice3.txt").write_text("\n".join(truth) + "\n")
    elif name == "RobotCar":
        (data / "intrinsics").mkdir()
        _, focal, cx, cy = PARAMS["square"]
        for side in ("left", "right", "rear"):
            (data / "intrinsics" / f"{side}_intrinsics.txt").write_text(
                f"fx {focal}\nfy {focal}\ncx {cx}\ncy {cy}\n"
            )
    elif name.startswith("Aachen"):
        for time, share in (("day", lines[:2]), ("night", lines[2:])):
            (outputs / f"{time}_time_queries_with_intrinsics.txt").write_text("\n".join(share))
    else:
        where.queries.write_text("\n".join(lines) + "\n")
        if where.listed is None:
            write_poses(where.truth, truth)
            return Miniature(name, part, data, outputs, truth)
        where.truth.mkdir(parents=True)
        _truth(truth).write_binary(str(where.truth))
        where.listed.write_text("\n".join(truth) + "\n")
    return Miniature(name, part, data, outputs, truth)


def _copy(source, target, square=False):
    target.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.imread(str(source))
    if square:
        side = PARAMS["square"][0]
        image = cv2.resize(image, (side, side * 3 // 4), interpolation=cv2.INTER_CUBIC)
        image = np.pad(image, ((0, side - image.shape[0]), (0, 0), (0, 0)))
    cv2.imwrite(str(target), image)


def _truth(poses):
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            model="PINHOLE", width=640, height=480, params=[520, 520, 320, 240], camera_id=1
        )
    )
    for number, (name, pose) in enumerate(poses.items(), 1):
        w, x, y, z = pose.quaternion().tolist()
        turn = pycolmap.Rotation3d(np.array([x, y, z, w]))
        image = pycolmap.Image(name, camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(turn, pose.translation.numpy()))
    return model
