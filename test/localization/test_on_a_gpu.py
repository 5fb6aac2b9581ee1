"""The whole way on a GPU: graphs, half precision and Triton's kernels give what a processor gives.

Every test here has its like for the processor in test_localizer.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.features import open_network, read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior, View
from pixloc_ros.mapping import PixMap

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def on_gpu(room):
    with PixMap(room.map_file) as pixmap:
        yield Localizer(pixmap, open_network(None).to("cuda"))


@pytest.fixture
def frame(room):
    frame = room.sequence.frames[2]
    return read_image(room.sequence.images / frame.name), frame


def same(ours, theirs, metres=2e-3, degrees=0.05, spread=2.0):
    assert ours.ok, ours.reason
    assert theirs.ok, theirs.reason
    away, radians = ours.cam_from_map.distance(theirs.cam_from_map)
    assert float(away) < metres
    assert float(torch.rad2deg(radians)) < degrees
    ratio = ours.covariance.diagonal() / theirs.covariance.diagonal()
    assert 1 / spread < float(ratio.min()) <= float(ratio.max()) < spread


def test_every_way_to_start_ends_at_the_same_pose(on_gpu, localizer, frame):
    image, frame = frame
    vague = torch.diag(torch.tensor([0.05] * 3 + [0.02] * 3, dtype=torch.float64))
    for prior in (None, Prior(frame.truth), Prior(frame.truth, vague)):
        for _ in range(2):  # what was recorded, and what is replayed
            same(
                on_gpu.localize(image, frame.camera, prior),
                localizer.localize(image, frame.camera, prior),
            )


def test_the_step_by_step_way_ends_there_too(on_gpu, frame):
    image, frame = frame
    fused = on_gpu.localize(image, frame.camera, Prior(frame.truth))
    plain = on_gpu.traced().localize(image, frame.camera, Prior(frame.truth))
    assert plain.trace is not None
    same(fused, plain, 2e-4, 0.01)


def test_cameras_of_a_rig_keep_their_own_pyramids(on_gpu, localizer, room):
    """The second image of a size must not be written over the first."""
    first, second = room.sequence.frames[2], room.sequence.frames[6]
    images = [read_image(room.sequence.images / f.name) for f in (first, second)]
    mount = second.truth @ first.truth.inverse()
    views = [View(images[0], first.camera), View(images[1], second.camera, mount)]
    alone = on_gpu.extract_features(views[:1])[0].pyramid.levels[-1].features
    together = on_gpu.extract_features(views)[0].pyramid.levels[-1].features
    assert torch.equal(alone, together)
    prior = Prior(first.truth)
    same(on_gpu.localize_views(views, prior), localizer.localize_views(views, prior))


def test_it_is_deterministic_and_takes_other_sizes(on_gpu, frame):
    image, frame = frame
    first, second = (on_gpu.localize(image, frame.camera, Prior(frame.truth)) for _ in range(2))
    assert torch.equal(first.cam_from_map.translation, second.cam_from_map.translation)
    part = np.ascontiguousarray(image[:400, :600])
    smaller = frame.camera.crop(0, 0, 600, 400)
    found = on_gpu.localize(part, smaller, Prior(frame.truth))
    same(found, first, 0.02, 0.3, spread=5.0)


def test_a_wrong_image_is_refused(on_gpu, frame):
    image, frame = frame
    for wrong in (np.zeros_like(image), np.ascontiguousarray(image[:, ::-1])):
        for prior in (None, Prior(frame.truth)):
            assert not on_gpu.localize(wrong, frame.camera, prior).ok
    turned = Pose.from_rotvec(torch.tensor([0, 3.1, 0]).double(), torch.zeros(3).double())
    hopeless = Prior(turned @ frame.truth)
    assert not on_gpu.localize(image, frame.camera, hopeless, search=False).ok


def test_features_are_read_again_where_few_fit(room, localizer, frame):
    image, frame = frame
    with PixMap(room.map_file) as pixmap:
        network = open_network(None).to("cuda")
        tight = Localizer(pixmap, network, LocalizerOptions(references=2), cache_mb=0.01)
        prior = Prior(frame.truth)
        for _ in range(3):
            same(
                tight.localize(image, frame.camera),
                localizer.localize(image, frame.camera),
                0.02,
                0.3,
                spread=5.0,  # fewer references, fewer points
            )
            assert tight.localize(image, frame.camera, prior).ok
