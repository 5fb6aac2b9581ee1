"""Logs of hloc as it is and as it was, and pickles that are something else."""

from __future__ import annotations

import os
import pickle
from collections import defaultdict

import numpy as np
import pycolmap
import pytest
import torch

from pixloc_ros.datasets import ListError
from pixloc_ros.datasets.hloc_logs import read_logs

NAMES = {4: "a.jpg", 7: "b.jpg", 9: "c.jpg"}
QUATERNION = np.array([0.8, 0.0, 0.6, 0.0])
TRANSLATION = np.array([1.0, 2.0, 3.0])


def entry(solved):
    """Point 11 was seen by the first and third reference, point 12 by the third."""
    seen = ([0, 1, 2], [(11, [0, 2]), (12, [2]), (13, [1])])
    return {
        "db": [4, 7, 9],
        "PnP_ret": solved,
        "keypoints_query": np.zeros((3, 2), np.float32),
        "points3D_ids": [11, 12, 13],
        "num_matches": np.int64(3),
        "keypoint_index_to_db": seen,
    }


def old():
    return {
        "success": True,
        "qvec": QUATERNION,
        "tvec": TRANSLATION,
        "num_inliers": 2,
        "inliers": [True, True, False],
    }


def today():
    w, x, y, z = QUATERNION
    turn = pycolmap.Rotation3d(np.array([x, y, z, w]))
    return {
        "cam_from_world": pycolmap.Rigid3d(turn, TRANSLATION),
        "num_inliers": 2,
        "inlier_mask": np.array([True, True, False]),
    }


def written(path, loc):
    path.write_bytes(pickle.dumps({"features": "f.h5", "loc": loc}))
    return path


@pytest.mark.parametrize("solved", [old, today])
def test_poses_and_who_speaks_for_them(tmp_path, solved):
    failed = entry({"success": False}) if solved is old else entry(None)
    loc = defaultdict(dict, {"q0.jpg": entry(solved()), "q1.jpg": failed})
    found = read_logs(written(tmp_path / "logs.pkl", loc), NAMES)
    assert found["q0.jpg"].references == ("c.jpg", "a.jpg", "b.jpg")
    assert found["q0.jpg"].counts == (2, 1, 0)
    assert found["q0.jpg"].inliers == ((11, ("a.jpg", "c.jpg")), (12, ("c.jpg",)))
    pose = found["q0.jpg"].cam_from_map
    assert torch.allclose(pose.quaternion(), torch.from_numpy(QUATERNION))
    assert torch.allclose(pose.translation, torch.from_numpy(TRANSLATION))
    assert found["q1.jpg"].cam_from_map is None
    assert found["q1.jpg"].references == ("a.jpg", "b.jpg", "c.jpg")


def test_clusters_of_references(tmp_path):
    loc = {
        "q0.jpg": {"best_cluster": 1, "log_clusters": [entry({"success": False}), entry(old())]},
        "q1.jpg": {"best_cluster": None, "log_clusters": [entry({"success": False})]},
    }
    found = read_logs(written(tmp_path / "logs.pkl", loc), NAMES)
    assert found["q0.jpg"].references[0] == "c.jpg"
    assert found["q1.jpg"].cam_from_map is None


class Evil:
    def __reduce__(self):
        return os.system, ("exit 0",)


def test_pickles_that_are_something_else(tmp_path):
    path = tmp_path / "logs.pkl"
    with pytest.raises(ListError, match="no such file"):
        read_logs(path, NAMES)
    written(path, Evil())
    with pytest.raises(ListError, match=r"posix\.system, which hloc's logs do not"):
        read_logs(path, NAMES)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ListError, match="it has no 'loc'"):
        read_logs(path, NAMES)
    path.write_bytes(pickle.dumps({"loc": {}})[:-5])
    with pytest.raises(ListError, match="no usable logs"):
        read_logs(path, NAMES)
    with pytest.raises(ListError, match="q0: KeyError 99"):
        read_logs(written(path, {"q0": entry(old()) | {"db": [99]}}), NAMES)
