"""Recorded runs: what was written is read, what is damaged is named."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import read_poses
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Decision, Prior, RunError, RunFile, RunWriter, View
from pixloc_ros.localization.run_container import FIRST_LINE


@pytest.fixture
def tracing(localizer):
    return localizer.traced()


@pytest.fixture
def frame(room):
    frame = room.sequence.frames[2]
    return read_image(room.sequence.images / frame.name), frame


def away(pose):
    return pose.perturb(torch.tensor([0.1, -0.05, 0.1, 0.02, 0.04, -0.03], dtype=torch.float64))


@pytest.mark.parametrize("from_prior", [True, False])
def test_a_trace_leads_from_the_start_to_the_answer(localizer, tracing, frame, from_prior):
    image, frame = frame
    start = away(frame.truth)
    prior = Prior(start) if from_prior else None
    result = tracing.localize(image, frame.camera, prior)
    plain = localizer.localize(image, frame.camera, prior)
    assert plain.trace is None
    # told or not, the answer is the same but for the way it is computed
    metres, radians = result.cam_from_map.distance(plain.cam_from_map)
    assert float(metres) < 1e-4
    assert float(radians) < 1e-4
    trace = result.trace
    assert len(trace) >= 3
    assert (np.diff(trace.levels.astype(int)) >= 0).all()
    assert trace.levels[-1] == len(tracing.map.header.levels) - 1
    if from_prior:
        assert torch.allclose(trace.pose(0).matrix(), start.matrix(), atol=1e-6)
    # patches have moved the answer from there
    metres, radians = trace.pose(-1).distance(result.cam_from_map)
    assert float(metres) < 0.01
    assert float(radians) < 0.005
    errors = [float(trace.pose(k).distance(frame.truth)[0]) for k in range(len(trace))]
    assert errors[-1] < 0.02
    assert errors[-1] < errors[0]
    # points are where the map has them, seen by the references that are named
    model = tracing.map.model
    for point, reference in list(zip(trace.points, trace.references, strict=True))[::97]:
        seen = model.observed[model.offsets[reference] : model.offsets[reference + 1]]
        assert point in seen
        assert model.names[reference] in result.references
    fits = trace.residual[-1] < 1
    visible = np.isfinite(trace.residual[-1])
    assert fits.sum() / visible.sum() == pytest.approx(result.statistics.inliers, abs=1e-3)
    assert (trace.residual[0] < 1).sum() < fits.sum()
    assert 0 < trace.confidence[visible[None].repeat(len(trace), 0)].max() <= 1


def test_several_hypotheses(tracing, frame):
    """The way that is told is that of the one that won."""
    image, frame = frame
    start = away(frame.truth)
    vague = Prior(start, 0.2 * torch.eye(6, dtype=torch.float64))
    trace = tracing.localize(image, frame.camera, vague).trace
    steps = [float(trace.pose(k).distance(trace.pose(k + 1))[0]) for k in range(len(trace) - 1)]
    # no jump from one hypothesis to another
    assert max(steps) < 0.5
    assert float(trace.pose(-1).distance(frame.truth)[0]) < 0.02


def test_two_views(tracing, frame, tmp_path):
    image, frame = frame
    mount = Pose.from_rotvec(torch.tensor([0, 0.02, 0]).double(), torch.zeros(3).double())
    views = [View(image, frame.camera), View(image, frame.camera, mount)]
    result = tracing.localize_views(views, Prior(frame.truth))
    assert result.trace is not None
    assert set(result.trace.views) == {0, 1}
    with RunWriter(tmp_path / "r.pixrun", tracing.map) as writer:
        writer.add("two", 3.5, views, None, result)
    with RunFile(tmp_path / "r.pixrun") as run:
        read = run[0]
    assert len(read.views) == 2
    assert torch.allclose(read.views[1].cam_from_rig.matrix(), mount.matrix(), atol=1e-9)
    assert read.prior is None


def test_what_is_written_is_read(tracing, frame, tmp_path):
    image, frame = frame
    prior = Prior(away(frame.truth))
    result = tracing.localize(image, frame.camera, prior)
    refused = tracing.localize(np.zeros_like(image), frame.camera)
    assert not refused.ok
    path = tmp_path / "a.pixrun"
    fisheye = Camera.from_colmap("OPENCV_FISHEYE", 640, 480, [500, 500, 320, 240, 0.1, 0, 0, 0])
    with RunWriter(path, tracing.map) as writer, RunFile(path) as run:
        assert len(run) == 0
        writer.add("one.png", 1.25, [View(image, frame.camera)], prior, result)
        assert run.refresh() == 1
        large = cv2.resize(image, (1280, 960))[..., 0].copy()
        camera = fisheye.resize(1280, 960)
        writer.add("two.png", 2.5, [View(large, camera)], None, refused)
        assert run.refresh() == 2
        one, two = run[0], run[1]
        assert run.map_path == tracing.map.path.resolve()
        assert run.levels[-1] == (640, 0)
    assert (one.name, one.stamp, one.decision) == ("one.png", 1.25, Decision.FIX)
    assert torch.allclose(one.cam_from_map.matrix(), result.cam_from_map.matrix(), atol=1e-12)
    assert torch.allclose(one.prior.matrix(), prior.cam_from_map.matrix(), atol=1e-12)
    assert one.facts["references"] == list(result.references)
    assert np.abs(one.views[0].image.astype(int) - image).mean() < 4
    assert torch.equal(one.views[0].camera.numbers(), frame.camera.numbers())
    assert np.array_equal(one.trace.levels, result.trace.levels)
    assert np.allclose(one.trace.poses, result.trace.poses)
    shown = np.isfinite(result.trace.residual)
    assert np.array_equal(np.isfinite(one.trace.residual), shown)
    close = shown & (result.trace.residual < 4)
    assert np.abs(one.trace.residual[close] - result.trace.residual[close]).max() < 0.01
    assert np.abs(one.trace.confidence - result.trace.confidence).max() < 0.003
    assert np.allclose(one.points, tracing.map.model.points[result.trace.points], atol=1e-5)
    assert (two.decision, two.cam_from_map, two.trace) == (Decision.REFUSED, None, None)
    assert two.facts["reason"] == refused.reason
    # gray, and too large to keep as it was
    assert two.views[0].image.shape == (720, 960, 3)
    assert two.views[0].camera.lens.equidistant
    assert two.views[0].shrunk.size.tolist() == [960, 720]


def test_an_image_that_cannot_be_localized_is_kept_too(localizer, frame, tmp_path):
    _, frame = frame
    tiny = View(np.zeros((20, 20), np.uint8), frame.camera)
    refused = localizer.localize_views([tiny])
    assert "at least 32 a side" in refused.reason
    with RunWriter(tmp_path / "t.pixrun", localizer.map) as writer:
        writer.add("tiny.png", 0.0, [tiny], None, refused)
    with RunFile(tmp_path / "t.pixrun") as run:
        assert run[0].views[0].image.shape == (20, 20, 3)
        assert run[0].facts["status"] == "bad_input"


@pytest.fixture
def run(localizer, frame, tmp_path):
    image, frame = frame
    result = localizer.localize(image, frame.camera, Prior(frame.truth))
    with RunWriter(tmp_path / "run.pixrun", localizer.map) as writer:
        for i in range(3):
            writer.add(f"{i}.png", i, [View(image, frame.camera)], None, result)
    return tmp_path / "run.pixrun"


def test_a_run_that_was_cut_off_keeps_what_is_whole(run):
    content = run.read_bytes()
    with RunFile(run) as whole:
        assert len(whole) == 3
    for missing in (1, 100, len(content) // 4):
        run.write_bytes(content[:-missing])
        with RunFile(run) as cut:
            assert len(cut) == 2
            assert cut[1].name == "1.png"


def test_damaged_runs_are_refused(run, tmp_path):
    content = bytearray(run.read_bytes())
    flipped = content.copy()
    flipped[-1000] ^= 0xFF
    run.write_bytes(flipped)
    with RunFile(run) as damaged:
        assert damaged[0].name == "0.png"
        with pytest.raises(RunError, match=r"damaged run \(frame 2\)"):
            damaged[2]
    bad = {
        "not a recorded run": b"PK\x03\x04 something else",
        "cut off before its first record": bytes(content[: len(FIRST_LINE) + 20]),
        "a record of": FIRST_LINE + b"\xff" * 40,
    }
    for message, data in bad.items():
        (tmp_path / "bad.pixrun").write_bytes(data)
        with pytest.raises(RunError, match=message):
            RunFile(tmp_path / "bad.pixrun")
    with pytest.raises(RunError, match="No such file"):
        RunFile(tmp_path / "none.pixrun")


def test_localize_records(room, network, tmp_path, capsys):
    sequence = room.sequence
    queries = tmp_path / "queries.txt"
    lines = (sequence.root / "queries_with_intrinsics.txt").read_text().splitlines()[:3]
    queries.write_text("\n".join([*lines, "missing.png PINHOLE 640 480 520 520 320 240"]) + "\n")
    command = ["localize", "--map", room.map_file, "--images", sequence.images]
    more = ["--queries", queries, "--output", tmp_path / "poses.txt"]
    record = ["--record", tmp_path / "run.pixrun", "--report", tmp_path / "report.json"]
    assert main([str(a) for a in [*command, *more, *record]]) == 1
    assert "1 queries could not be used" in capsys.readouterr().err
    poses = read_poses(tmp_path / "poses.txt")
    report = json.loads((tmp_path / "report.json").read_text())
    with RunFile(tmp_path / "run.pixrun") as run:
        assert len(run) == 3
        for i in range(3):
            frame = run[i]
            assert torch.allclose(
                frame.cam_from_map.matrix(), poses[frame.name].matrix(), atol=1e-6
            )
            assert frame.facts == report[frame.name]
            assert len(frame.trace) > 2
    wrong = ["--record", tmp_path / "run.json"]
    assert main([str(a) for a in [*command, *more, *wrong]]) == 1
    assert "ends in .pixrun" in capsys.readouterr().err
