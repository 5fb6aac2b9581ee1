"""`benchmark` with procedure=published against what the original recorded, from files to pose."""

from __future__ import annotations

import functools
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, combinations

import cv2
import h5py
import numpy as np
import pycolmap
import pytest
import torch
import torch.nn.functional as F
from test_alignment import flat, image_pyramid, original_camera, pose12, tensor

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import read_poses
from pixloc_ros.features.image import to_tensor
from pixloc_ros.geometry import CAUCHY, FeatureTable, Pose


def reference_pose(o, j):
    return Pose.from_quaternion(tensor(o[f"ref{j}_qvec"]), tensor(o[f"ref{j}_tvec"]))


PAD = {"A": 2, "B": 1, "C": 2, "D": 2}


def raw_samples(o, network, scale, levels, j, points, pad):
    """What reference j shows of points at each level: (n, C + 1); NaN where it does not."""
    image = o[f"ref{j}_image_rgb"]
    geometry = image_pyramid(network, image, scale, levels)
    with torch.no_grad():
        output = network(to_tensor(image, 1024 // scale, False)[None])
    camera = original_camera(o[f"ref{j}_camera_pixloc"]).to(torch.float64)
    rows = {}
    for level in levels:
        scaled = geometry[level].camera(camera)
        pixels, visible = scaled.project(reference_pose(o, j).transform(points))
        table = FeatureTable(torch.cat([output.features[level][0], output.confidence[level]]))
        rows[level] = table.sample(pixels)
        rows[level][~(visible & table.inside(pixels, pad))] = torch.nan
    return rows


def averaged(rows):
    """Of (references, n, C + 1): weighted mean features and mean confidence."""
    features, weight = rows[..., :-1], rows[..., -1:]
    return torch.cat([(features * weight).sum(0) / weight.sum(0), weight.mean(0)], -1)


def subsets(count):
    return list(chain.from_iterable(combinations(range(count), k) for k in range(1, count + 1)))


def seen_by(o, network, name):
    """For each recorded point, which references saw it: found from what was recorded of it."""
    scale = int(o["image_scales"][-1])
    points = tensor(o[f"s{scale}_p3d"])
    levels = (1, 0) if "s1_ref_feat1" in o and "s1_ref_feat2" not in o else (2, 1, 0)
    count = len(o["dbids"])
    samples = [raw_samples(o, network, scale, levels, j, points, PAD[name]) for j in range(count)]
    candidates = subsets(count) if name in "CD" else [(j,) for j in range(count)]
    misfit = torch.zeros(len(candidates), len(points))
    query = image_pyramid(network, o["query_image_rgb"], scale, levels)
    for level in levels:
        stored = o.get(f"s{scale}_ref_feat{level}")
        for k, chosen in enumerate(candidates):
            rows = averaged(torch.stack([samples[j][level] for j in chosen]))
            if stored is not None:
                misfit[k] += (rows - tensor(stored)).abs().amax(-1)
            else:
                misfit[k] += recorded_misfit(o, query[level], scale, level, rows, points)
    best = misfit.nan_to_num(torch.inf).argmin(0)
    return [candidates[int(k)] for k in best], points


def recorded_misfit(o, maps, scale, level, rows, points):
    """How far the cost and confidence of reference rows are from those of iteration 0."""
    key = f"s{scale}_L{level}"
    camera = original_camera(o[f"{key}_camera"]).to(torch.float64)
    start = pose12(o[f"{key}_T_start"]).to(torch.float64)
    pixels, _ = camera.project(start.transform(points))
    pixels = pixels.float()
    residual = FeatureTable(maps.features).sample(pixels) - F.normalize(rows[:, :-1], dim=-1)
    cost, _ = CAUCHY((residual**2).sum(-1))
    confidence = FeatureTable(maps.confidence[None]).sample(pixels)[:, 0] * rows[:, -1]
    valid = tensor(o[f"{key}_it0_valid"])
    apart = (cost - tensor(o[f"{key}_it0_cost"])).abs()
    apart = apart + (confidence - tensor(o[f"{key}_it0_w_unc"])).abs()
    return torch.where(valid | apart.isnan(), apart, 0)


def lay_out(o, root, tracks, points):
    """A data set as `benchmark own` takes it. tracks: of each point."""
    ids, wide = np.unique(np.round(points.numpy(), 9), axis=0, return_inverse=True)
    model = pycolmap.Reconstruction()
    camera = o["ref0_camera_pixloc"]
    name = "OPENCV" if len(camera) > 6 else "PINHOLE"
    params = [*camera[2:4], *(camera[4:6] + 0.5), *camera[6:]]
    w, h = map(int, camera[:2])
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model=name, width=w, height=h, params=params, camera_id=1)
    )
    shown = [sorted({int(p) for p, t in zip(wide, tracks, strict=True) if j in t})
             for j in range(len(o["dbids"]))]  # fmt: skip
    for j, numbers in enumerate(shown):
        pose = reference_pose(o, j)
        qw, x, y, z = pose.quaternion().tolist()
        keypoints = pycolmap.Point2DList([pycolmap.Point2D(np.zeros(2)) for _ in numbers])
        image = pycolmap.Image(
            str(o[f"ref{j}_name"]), camera_id=1, image_id=j + 1, points2D=keypoints
        )
        turn = pycolmap.Rotation3d(np.array([x, y, z, qw]))
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(turn, pose.translation.numpy()))
        cv2.imwrite(str(root / "images" / image.name), o[f"ref{j}_image_rgb"][..., ::-1])
    slots = [{number: k for k, number in enumerate(numbers)} for numbers in shown]
    for number, xyz in enumerate(ids):
        track = pycolmap.Track()
        for j, slot in enumerate(slots):
            if number in slot:
                track.add_element(j + 1, slot[number])
        model.add_point3D(xyz, track)
    (root / "sfm").mkdir()
    model.write_binary(str(root / "sfm"))
    query = str(o["query_name"])
    cv2.imwrite(str(root / "images" / query), o["query_image_rgb"][..., ::-1])
    wh, values = o["query_camera_wh"], o["query_camera_params_colmap"]
    words = [query, str(o["query_camera_model"]), *wh.tolist(), *values.tolist()]
    (root / "queries_with_intrinsics.txt").write_text(" ".join(map(str, words)) + "\n")
    names = [str(o[f"ref{j}_name"]) for j in range(len(shown))]
    (root / "pairs.txt").write_text("".join(f"{query} {name}\n" for name in names))
    return query, names, wide


def similarities(o, query, names, path):
    """Descriptors under which the weighted mean of two poses is the recorded start."""
    centres = [reference_pose(o, j).inverse().translation for j in range(2)]
    start = pose12(o["s1_T_init"]).to(torch.float64)
    goal, axis = start.inverse().translation, centres[1] - centres[0]
    share = float((goal - centres[0]) @ axis / (axis @ axis))
    other = (share / (1 - share)) ** (1 / 8)
    with h5py.File(path, "w") as file:
        for name, cosine in ((query, 1.0), (names[0], 0.9), (names[1], 0.9 * other)):
            vector = np.array([cosine, (1 - cosine**2) ** 0.5])
            file[f"{name}/global_descriptor"] = vector


def logs(o, query, names, wide, tracks, path):
    """hloc's, with every recorded point as an inlier; COLMAP counts points from 1."""
    start = pose12(o["s1_T_init"]).to(torch.float64)
    seen = [(int(p) + 1, list(t)) for p, t in zip(wide, tracks, strict=True)]
    solved = {
        "success": True,
        "qvec": start.quaternion().numpy(),
        "tvec": start.translation.numpy(),
        "num_inliers": len(seen),
        "inliers": [True] * len(seen),
    }
    entry = {
        "db": list(range(1, len(names) + 1)),
        "PnP_ret": solved,
        "keypoint_index_to_db": (list(range(len(seen))), seen),
    }
    path.write_bytes(pickle.dumps({"loc": {query: entry}}))


CASES = {
    "A": ["refinement.num_dbs=3", "optimizer.num_iters=100"],
    "B": [
        *("refinement.num_dbs=2", "optimizer.num_iters=30", "optimizer.pad=1"),
        "refinement.do_pose_approximation=true",
    ],
    "C": [
        *("refinement.num_dbs=4", "refinement.multiscale=[4,1]"),
        "refinement.average_observations=true",
    ],
    "D": ["--from_poses"],
}


def run(o, name, networks, experiment, tmp_path):
    """Localize a recorded query from nothing but files; metres and degrees off the recorded."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    tracks, points = seen_by(o, networks["vgg19"], name)
    query, names, wide = lay_out(o, root, tracks, points)
    # the model knows tracks among these references only
    more = ["procedure=published", "refinement.min_track_length=1", f"experiment={experiment}"]
    if name == "B":
        similarities(o, query, names, tmp_path / "g.h5")
        more += ["--global_descriptors", tmp_path / "g.h5"]
    if name == "D":
        logs(o, query, names, wide, tracks, tmp_path / "logs.pkl")
        more += ["--hloc_logs", tmp_path / "logs.pkl"]
    where = ["--dataset", root, "--dumps", root, "--eval_dir", tmp_path / "r"]
    assert main([str(a) for a in ["benchmark", "own", *where, *CASES[name], *more]]) == 0
    found = read_poses(tmp_path / "r" / "pixloc_own.txt")[query]
    recorded = Pose(tensor(o["T_refined_R"]), tensor(o["T_refined_t"]))
    # it went somewhere
    start = pose12(o[f"s{int(o['image_scales'][0])}_T_init"]).to(torch.float64)
    assert (flat(start) - flat(recorded)).abs().max() > 1e-3
    metres, radians = found.distance(recorded)
    return float(metres), float(torch.rad2deg(radians))


@pytest.mark.parametrize("name", CASES)
def test_same_pose_as_the_original(case, networks, checkpoints, tmp_path, name, capsys):
    """From retrieval, from pose approximation, at two scales with averaging, and from poses."""
    metres, degrees = run(case(name), name, networks, checkpoints["vgg19"], tmp_path)
    assert "1 of 1 aligned" in capsys.readouterr().out
    assert metres < 1e-5
    assert degrees < 1e-3


def test_a_downloaded_checkpoint(case, networks, checkpoints, tmp_path, monkeypatch, capsys):
    """`download --select checkpoints` and `experiment=pixloc_megadepth` are all it takes."""
    folder = tmp_path / "server" / "checkpoints" / "pixloc_megadepth"
    folder.mkdir(parents=True)
    (folder / "checkpoint_best.tar").symlink_to(checkpoints["vgg19"])
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "server")
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"pixloc=http://127.0.0.1:{server.server_port}/"
        assert main(["download", "--select", "checkpoints", "--root", mirror]) == 0
        server.shutdown()
    assert "checkpoints: 1 files downloaded" in capsys.readouterr().out
    metres, degrees = run(case("A"), "A", networks, "pixloc_megadepth", tmp_path)
    assert metres < 1e-5
    assert degrees < 1e-3
