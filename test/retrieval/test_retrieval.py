from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from pixloc_ros.geometry import Pose
from pixloc_ros.mapping import SparseModel
from pixloc_ros.mapping.sparse_model import CameraEntry
from pixloc_ros.retrieval import (
    Covisibility,
    DescriptorIndex,
    RetrievalError,
    rank_by_global_features,
    read_global_features,
)


def chain(views):
    """A model whose reference r sees the listed points, on a line, all looking along z."""
    count = 1 + max(max(v) for v in views)
    flat = np.concatenate([np.array(v) for v in views])
    return SparseModel(
        cameras=(CameraEntry("PINHOLE", 100, 100, (100.0, 100.0, 50.0, 50.0)),),
        names=tuple(f"{i}.jpg" for i in range(len(views))),
        camera_index=np.zeros(len(views), np.int32),
        quaternion=np.tile([1.0, 0, 0, 0], (len(views), 1)),
        translation=np.array([[-float(i), 0, 0] for i in range(len(views))]),
        points=np.array([[float(p), 0, 4.0] for p in range(count)]),
        track_length=np.bincount(flat, minlength=count),
        offsets=np.concatenate([[0], np.cumsum([len(v) for v in views])]),
        observed=flat.astype(np.int32),
    )


def test_index_finds_the_nearest_after_taking_the_mean_off():
    torch.manual_seed(0)
    common = 10 * torch.ones(16)
    own = torch.randn(20, 16)
    index = DescriptorIndex(torch.nn.functional.normalize(common + own, dim=-1))
    query = torch.nn.functional.normalize(common + own[7] + 0.1 * torch.randn(16), dim=-1)
    found, scores = index.search(query, 5)
    assert found[0] == 7
    assert scores == sorted(scores, reverse=True)
    # a common part would make every cosine about one
    assert scores[0] > 0.9
    assert scores[-1] < 0.7
    assert len(index.search(query, 100)[0]) == 20


def test_index_with_few_references_keeps_their_mean():
    index = DescriptorIndex(torch.eye(3))
    assert index.search(torch.tensor([0.0, 1.0, 0.0]), 1)[0] == [1]
    with pytest.raises(ValueError, match="4 numbers"):
        index.search(torch.zeros(4), 1)
    with pytest.raises(ValueError, match="descriptors are"):
        DescriptorIndex(torch.zeros(0, 4))


def test_visible_from_prefers_references_that_cover_the_view():
    covisibility = Covisibility(chain([[0, 1], [0, 1, 2], [1, 2, 3], [7, 8], [8, 9]]))
    camera = covisibility_camera()
    here = Pose.from_quaternion([1.0, 0, 0, 0], [-1.0, 0, 0])
    found = covisibility.visible_from(here, camera, 3)
    assert set(found) == {0, 1, 2}
    assert found[0] == 1  # it stands right here
    away = Pose.from_rotvec(
        torch.tensor([0, np.pi, 0]).double(), torch.tensor([0.0, 0, -50]).double()
    )
    assert covisibility.visible_from(away, camera, 3) == []


def covisibility_camera():
    return chain([[0]]).cameras[0].camera()


def test_global_features_of_hloc(tmp_path):
    path = tmp_path / "global.h5"
    with h5py.File(path, "w") as file:
        for name in ("db/a.jpg", "db/b.jpg"):
            file.create_group(name)["global_descriptor"] = np.full(8, len(name), np.float16)
    features = read_global_features(path, ["db/b.jpg", "db/a.jpg"])
    assert features.shape == (2, 8)
    assert features.dtype == torch.float32
    with pytest.raises(RetrievalError, match="lacks"):
        read_global_features(path, ["db/c.jpg"])


def test_ranking_by_global_features_of_hloc(tmp_path):
    path = tmp_path / "global.h5"
    vectors = {"a": [1.0, 0, 0], "b": [0, 1.0, 0], "c": [0, 0, 1.0], "q": [0.1, 0.9, 0.4]}
    with h5py.File(path, "w") as file:
        for name, vector in vectors.items():
            file.create_group(name)["global_descriptor"] = np.array(vector, np.float32)
    assert rank_by_global_features(path, ["a", "b", "c"], ["q"], 2) == {"q": ["b", "c"]}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"", "truncated"), (b"text", "truncated")]
)
def test_unusable_global_features(tmp_path, content, message):
    path = tmp_path / "global.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RetrievalError, match=message):
        read_global_features(path, ["a"])


def test_references_that_share_points_stay_together():
    # 0 and 3 share a point, 3 and 1 too; 2 and 4 are on their own
    model = chain([[0, 1], [3, 4], [7, 8], [1, 3], [9, 10]])
    covisibility = Covisibility(model)
    assert covisibility.largest_cluster([2, 1, 3, 0]) == [1, 3, 0]
    # without 3 nothing links them: the first of the equally large
    assert covisibility.largest_cluster([2, 1, 0]) == [2]
    assert covisibility.largest_cluster([4]) == [4]
