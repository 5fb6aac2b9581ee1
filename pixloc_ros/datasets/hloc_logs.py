"""What hloc logged of its localization: poses by PnP, and which references spoke for them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_ros.datasets.text import ListError
from pixloc_ros.geometry import Pose

# what the pickles of hloc's versions hold; anything else could run code
_KNOWN = {
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("builtins", "slice"),
    ("collections", "defaultdict"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("pycolmap._core", "Rigid3d"),
    ("pycolmap._core", "Rotation3d"),
    ("pycolmap", "Rigid3d"),
    ("pycolmap", "Rotation3d"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which hloc's logs do not")
        return super().find_class(module, name)


@dataclass(frozen=True)
class Logged:
    """cam_from_map: None where PnP failed. references: names, those first that more inliers
    were matched with; counts: how many. inliers: COLMAP's number of each point that agrees with
    the pose, and the references it was matched with.
    """

    cam_from_map: Pose | None
    references: tuple[str, ...]
    counts: tuple[int, ...]
    inliers: tuple[tuple[int, tuple[str, ...]], ...] = ()


def read_logs(path: str | os.PathLike[str], names: Mapping[int, str]) -> dict[str, Logged]:
    """By query. names: of the SfM model's images, by COLMAP's number. Raises ListError."""
    path = Path(path)
    if not path.is_file():
        raise ListError(f"{path}: no such file of hloc's logs")
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, ValueError) as error:
        raise ListError(f"{path}: no usable logs of hloc ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("loc"), dict):
        raise ListError(f"{path}: a pickle, but not hloc's logs (it has no 'loc')")
    found = {}
    for query, entry in content["loc"].items():
        try:
            found[query] = _logged(entry, names)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise ListError(f"{path}: {query}: {type(error).__name__} {error}") from None
    return found


def _logged(entry: Mapping[str, Any], names: Mapping[int, str]) -> Logged:
    # where covisible references were told apart, the entry of the chosen ones is inside
    if "log_clusters" in entry:
        best = entry.get("best_cluster")
        if best is None:
            return Logged(None, (), ())
        entry = entry["log_clusters"][best]
    database = [names[int(i)] for i in entry["db"]]
    solved = entry.get("PnP_ret")
    if not solved or solved.get("success") is False:
        return Logged(None, tuple(database), (0,) * len(database))
    mask = solved.get("inliers", solved.get("inlier_mask"))
    count = np.zeros(len(database), int)
    inliers = []
    for inlier, (point, seen_by) in zip(mask, entry["keypoint_index_to_db"][1], strict=False):
        if inlier:
            count[list(seen_by)] += 1
            inliers.append((int(point), tuple(database[i] for i in seen_by)))
    order = np.argsort(-count, kind="stable")
    if "cam_from_world" in solved:
        placed = solved["cam_from_world"]
        x, y, z, w = placed.rotation.quat
        pose = Pose.from_quaternion([w, x, y, z], placed.translation)
    else:
        pose = Pose.from_quaternion(solved["qvec"], solved["tvec"])
    ranked = tuple(database[i] for i in order)
    return Logged(pose, ranked, tuple(count[order].tolist()), tuple(inliers))
