"""Images of the rendered room: what is right is found, what is wrong is refused."""

from __future__ import annotations

import gc
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

import pixloc_ros.localization.refinement as refinement_module
from pixloc_ros import fastest
from pixloc_ros.datasets.rendered_room import base_pose, make_room, mount
from pixloc_ros.errors import InputError
from pixloc_ros.features import RUNTIMES, inference, read_image
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior, Status
from pixloc_ros.localization.matching import Matcher
from pixloc_ros.localization.observations import LocalFrame, gather
from pixloc_ros.mapping import MapError, PixMap


@pytest.fixture
def frame(room):
    frame = room.sequence.frames[2]
    return read_image(room.sequence.images / frame.name), frame


def error(result, frame):
    metres, radians = result.cam_from_map.distance(frame.truth)
    return float(metres), float(torch.rad2deg(radians))


def moved(pose, metres, degrees):
    generator = torch.Generator().manual_seed(3)
    t, r = torch.nn.functional.normalize(
        torch.randn(2, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    return pose.perturb(torch.cat([t * metres, r * np.radians(degrees)]))


def test_finds_the_pose_by_retrieval(room, localizer):
    for frame in room.sequence.frames[::3]:
        result = localizer.localize(read_image(room.sequence.images / frame.name), frame.camera)
        assert result.ok, result.reason
        metres, degrees = error(result, frame)
        assert metres < 0.03
        assert degrees < 0.3
        assert result.references
        assert not result.from_prior
        assert {"network", "references", "match", "align", "gate", "total"} <= set(
            result.timings_ms
        )


def test_finds_the_pose_from_a_prior(localizer, frame):
    image, frame = frame
    result = localizer.localize(image, frame.camera, Prior(moved(frame.truth, 0.15, 5.0)))
    assert result.ok, result.reason
    assert result.from_prior
    assert error(result, frame) < (0.03, 0.3)
    assert "match" not in result.timings_ms


def test_is_deterministic(localizer, frame):
    image, frame = frame
    first, second = (localizer.localize(image, frame.camera) for _ in range(2))
    assert torch.equal(first.cam_from_map.translation, second.cam_from_map.translation)
    assert torch.equal(first.covariance, second.covariance)


def test_covariance_is_that_of_a_pose(localizer, frame):
    image, frame = frame
    result = localizer.localize(image, frame.camera)
    assert torch.allclose(result.covariance, result.covariance.T)
    assert torch.linalg.eigvalsh(result.covariance)[0] > 0
    metres = float(result.covariance[:3, :3].trace().sqrt())
    assert 1e-4 < metres < 0.1


def test_given_references_are_used(localizer, frame):
    image, frame = frame
    names = localizer.map.model.names
    near = int(
        (localizer.map.poses.inverse().translation - frame.truth.inverse().translation)
        .norm(dim=-1)
        .argmin()
    )
    assert localizer.localize(image, frame.camera, references=[names[near]]).ok
    unknown = localizer.localize(image, frame.camera, references=["db/none.jpg"])
    assert unknown.status is Status.NO_REFERENCE
    assert "none of the given references" in unknown.reason


def wrong_images(image):
    rng = np.random.default_rng(0)
    yield "black", np.zeros_like(image)
    yield "white", np.full_like(image, 255)
    yield "noise", rng.integers(0, 255, image.shape, np.uint8)
    yield "blurred", cv2.GaussianBlur(image, (0, 0), 40)
    yield "upside down", np.ascontiguousarray(image[::-1, ::-1])
    yield "mirrored", np.ascontiguousarray(image[:, ::-1])
    tiles = image.reshape(6, 80, 8, 80, 3).transpose(0, 2, 1, 3, 4).reshape(48, 80, 80, 3)
    mixed = tiles[rng.permutation(48)].reshape(6, 8, 80, 80, 3).transpose(0, 2, 1, 3, 4)
    yield "shuffled", np.ascontiguousarray(mixed.reshape(480, 640, 3))


def test_images_of_nothing_the_map_knows_are_refused(localizer, frame):
    image, frame = frame
    for prior in (None, Prior(frame.truth)):
        for name, wrong in wrong_images(image):
            result = localizer.localize(wrong, frame.camera, prior)
            if name == "upside down" and prior is None:
                # so is the camera, then
                _, degrees = error(result, frame)
                assert result.ok
                assert degrees == pytest.approx(180, abs=1)
                continue
            assert not result.ok, (name, prior, result.statistics)
            assert result.reason, name


def test_another_place_is_refused(room, localizer):
    """A room of the same style with other walls: nothing of it is in the map."""
    frame = room.sequence.frames[0]
    other = make_room(seed=99)
    for time in (0.0, 7.0, 13.0):
        pose = mount().inverse() @ base_pose(time, 1.0).inverse()
        image = np.clip(other.render(frame.camera, pose)[0], 0, 255).astype(np.uint8)
        for prior in (None, Prior(pose)):
            assert not localizer.localize(image, frame.camera, prior).ok


def test_a_hopeless_prior_is_refused_with_its_reason(localizer, frame):
    image, frame = frame
    nowhere = Prior(moved(frame.truth, 500.0, 90.0))
    result = localizer.localize(image, frame.camera, nowhere, search=False)
    assert result.status is Status.NO_REFERENCE
    turned = Pose.from_rotvec(torch.tensor([0, 3.1, 0]).double(), torch.zeros(3).double())
    result = localizer.localize(image, frame.camera, Prior(turned @ frame.truth), search=False)
    assert not result.ok


def test_matches_help_out_where_a_prior_is_wrong(localizer, frame):
    image, frame = frame
    for metres, degrees in ((500.0, 90.0), (1.0, 100.0)):
        prior = Prior(moved(frame.truth, metres, degrees))
        result = localizer.localize(image, frame.camera, prior)
        assert result.ok, result.reason
        assert not result.from_prior
        assert result.statistics.matches > 40
        assert error(result, frame) < (0.03, 0.3)


def test_a_wrong_prior_leads_to_matches_with_what_it_sees(localizer, frame, monkeypatch):
    """The retrieved references are half of those matched with; the prior's are the others."""
    image, frame = frame
    used = []
    match = Matcher.match

    def watched(matcher, references, pyramid):
        used.append(list(references))
        return match(matcher, references, pyramid)

    monkeypatch.setattr(Matcher, "match", watched)
    localizer.localize(image, frame.camera)
    turned = Pose.from_rotvec(torch.tensor([0, 1.5, 0]).double(), torch.zeros(3).double())
    prior = turned @ frame.truth
    localizer.localize(image, frame.camera, Prior(prior))
    count = localizer.options.references
    seen = localizer.candidates.visibility.visible_from(prior, frame.camera, count)
    assert seen
    assert used[1][: count // 2] == seen[: count // 2]
    rest = [r for r in used[0] if r not in seen[: count // 2]]
    assert used[1][count // 2 :] == rest[: count - count // 2]


def test_warmed_up_it_says_what_it_chose(room, network, monkeypatch):
    """And answers as before, up to the precision that was chosen."""
    ways = {name: RUNTIMES[name] for name in ("torch", "torch_bfloat16")}
    monkeypatch.setattr(inference, "RUNTIMES", ways)
    monkeypatch.setattr(fastest, "kept_folder", lambda: None)
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    with PixMap(room.map_file) as pixmap:
        localizer = Localizer(pixmap, network)
        before = localizer.localize(image, frame.camera)
        words = localizer.warm_up()
        after = localizer.localize(image, frame.camera)
    assert [entry.split(":")[0] for entry in words] == ["network", "matching"]
    assert localizer.extract.runtime in words[0]
    assert before.ok, before.reason
    assert after.ok, after.reason
    assert float(after.cam_from_map.distance(before.cam_from_map)[0]) < 5e-3


def test_a_runtime_that_is_not_there_is_an_error(room, network, monkeypatch):
    def absent(*_):
        raise ImportError("no module named onnxruntime")

    monkeypatch.setitem(RUNTIMES, "onnxruntime", absent)
    with PixMap(room.map_file) as pixmap:
        localizer = Localizer(pixmap, network, LocalizerOptions(runtime="onnxruntime"))
        with pytest.raises(InputError, match="runtime onnxruntime: no module"):
            localizer.warm_up()
    with pytest.raises(InputError, match="runtime 'tensorrt': one of auto, torch"):
        LocalizerOptions(runtime="tensorrt")
    with pytest.raises(InputError, match="product 'int8': one of auto, single, bfloat16"):
        LocalizerOptions(product="int8")


def test_what_is_pinned_is_not_measured(room, network):
    options = LocalizerOptions(runtime="torch_bfloat16", product="bfloat16")
    with PixMap(room.map_file) as pixmap:
        localizer = Localizer(pixmap, network, options)
        assert localizer.choose() == []
    assert localizer.extract.runtime == "torch_bfloat16"
    assert localizer.extract.dtype == torch.bfloat16


def test_both_reasons_are_told(localizer, frame):
    image, frame = frame
    result = localizer.localize(np.zeros_like(image), frame.camera, Prior(frame.truth))
    assert "from the prior: " in result.reason


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), "0 x 0"),
        (np.zeros((480, 640, 3), np.float32), "uint8"),
        (np.zeros((240, 320, 3), np.uint8), "its camera has 640x480"),
    ],
)
def test_bad_images_are_an_answer_not_an_exception(localizer, frame, image, message):
    result = localizer.localize(image, frame[1].camera)
    assert result.status is Status.BAD_INPUT
    assert message in result.reason


def test_odd_cameras_and_priors_are_an_answer_too(localizer, frame):
    image, frame = frame
    camera, nan = frame.camera, torch.full((3,), float("nan"), dtype=torch.float64)
    for odd, prior in [
        (camera[None], None),
        (replace(camera, focal=camera.focal * float("nan")), None),
        (replace(camera, focal=-camera.focal), None),
        (camera, Prior(frame.truth[None])),
        (camera, Prior(Pose(frame.truth.rotation, nan))),
    ]:
        assert localizer.localize(image, odd, prior).status is Status.BAD_INPUT
    single = Prior(frame.truth.to(torch.float32))
    assert localizer.localize(image, camera.to(torch.float32), single).ok


def test_another_network_is_refused(room):
    with PixMap(room.map_file) as pixmap, pytest.raises(MapError, match="other compact weights"):
        Localizer(pixmap, CompactNetwork())


def test_far_from_the_origin_nothing_is_lost(room, network, frame, tmp_path):
    """Maps in geographic coordinates: float32 alone would be off by half a metre there."""
    far = torch.tensor([4.0e5, 5.4e6, 300.0], dtype=torch.float64)
    image, frame = frame
    shift = lambda pose: Pose(  # noqa: E731
        pose.rotation, pose.translation - (pose.rotation @ far[:, None]).squeeze(-1)
    )
    map_file = Path(shutil.copy(room.map_file, tmp_path))
    with PixMap(map_file) as pixmap:
        moved = [shift(pixmap.pose(i)).translation.numpy() for i in range(len(pixmap))]
    with h5py.File(map_file, "r+") as file:
        file["points/xyz"][:] += far.numpy()
        file["references/translation"][:] = np.stack(moved)
    with PixMap(map_file) as pixmap:
        result = Localizer(pixmap, network).localize(image, frame.camera)
    assert result.ok, result.reason
    metres, _radians = result.cam_from_map.distance(shift(frame.truth))
    assert float(metres) < 0.03


def gathered(localizer, references, starts, camera, limit):
    return gather(localizer.store, references, starts, camera, limit)


def test_gathering_takes_what_the_starts_see(localizer, frame):
    _, frame = frame
    camera, starts = frame.camera, frame.truth[None]
    whole = gathered(localizer, [0, 1, 2, 3], starts, camera, 100_000)
    few = gathered(localizer, [0, 1, 2, 3], starts, camera, 100)
    assert 90 <= len(few) <= 100 < len(whole)
    # all near the view
    pixels, _ = camera.project(starts[0].transform(whole.points))
    past = torch.maximum(-pixels, pixels - camera.size) / camera.size
    assert float(past.max()) <= 0.125
    assert float(past.max()) > 0.0
    # a second start adds what it sees
    turn = Pose.from_rotvec(torch.tensor([0, 0.6, 0]).double(), torch.zeros(3).double())
    both = Pose.stack([frame.truth, turn @ frame.truth])
    assert len(gathered(localizer, [0, 1, 2, 3], both, camera, 100_000)) > len(whole)


def test_rows_are_those_of_the_points(localizer, frame):
    _, frame = frame
    few = gathered(localizer, [3, 1, 2], frame.truth[None], frame.camera, 100)
    expected = {}
    firsts = localizer.store.rows([3, 1, 2])
    for reference, first in zip([3, 1, 2], firsts, strict=True):
        points = localizer.map.reference(reference).points
        expected.update({first + i: localizer.map.points[p] for i, p in enumerate(points)})
    assert len({int(r) for r in few.rows}) == len(few)
    for row, point in zip(few.rows, few.points, strict=True):
        assert torch.equal(expected[int(row)], point)


def test_gathering_where_nothing_is_seen(localizer, frame):
    _, frame = frame
    turn = Pose.from_rotvec(torch.tensor([3.1, 0, 0]).double(), torch.zeros(3).double())
    away = (turn @ frame.truth)[None]
    nothing = gathered(localizer, [0], away, frame.camera, 100)
    assert len(nothing) == 0
    assert nothing.points.shape == (0, 3)


def test_a_local_frame_keeps_single_precision_precise(localizer):
    far = torch.tensor([5e6, -4e6, 1e5], dtype=torch.float64)
    frame = LocalFrame.around(localizer.map.points + far)
    assert torch.allclose(frame.origin - far, localizer.map.points.mean(0), atol=1e-6)
    pose = localizer.map.poses[3:4]
    away = Pose(pose.rotation, pose.translation - (pose.rotation @ far[:, None])[..., 0])
    local = frame.from_map(away)
    assert local.dtype == torch.float32
    assert float(local.translation.norm()) < 100
    back = frame.to_map(local)
    metres, radians = back.distance(away)
    assert float(metres) < 1e-5
    assert float(radians) < 1e-6


def test_a_localizer_goes_when_nobody_holds_it(localizer, frame):
    """Its maps and tables are large: they do not wait for a garbage collection."""
    image, frame = frame
    gc.collect()
    gc.disable()
    try:
        other = Localizer(localizer.map, localizer.network)
        assert other.localize(image, frame.camera, Prior(frame.truth)).ok
        held = [weakref.ref(other), weakref.ref(other.store), weakref.ref(other._refinement)]
        del other
        assert [reference() for reference in held] == [None, None, None]
    finally:
        gc.enable()


def test_options_reach_the_search(localizer, frame):
    image, frame = frame
    one = Localizer(localizer.map, localizer.network, LocalizerOptions(references=1))
    assert len(one.localize(image, frame.camera).references) == 1


def test_a_good_prior_survives_coarse_levels_that_lead_astray(localizer, frame, monkeypatch):
    image, frame = frame
    align, calls = refinement_module.align, []

    def astray(problems, *arguments):
        calls.append(len(problems))
        result = align(problems, *arguments)
        if len(calls) > 2:  # the fine levels
            return result
        moved = Pose(result.pose.rotation, result.pose.translation + 1.0)
        return replace(result, pose=moved)

    monkeypatch.setattr(refinement_module, "align", astray)
    result = localizer.localize(image, frame.camera, Prior(frame.truth))
    assert result.ok, result.reason
    assert error(result, frame) < (0.03, 0.3)
