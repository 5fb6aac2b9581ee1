"""One reader of calibration: camera_info, files of Kalibr and ROS, transforms.json."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.geometry import CameraError, Lens
from pixloc_ros.sensors import camera_of, note_on
from pixloc_ros.sensors.calibration_files import read_camera
from pixloc_ros.sensors.nerf_intrinsics import camera_of_intrinsics

K = [520.0, 0, 319.5, 0, 530.0, 239.5, 0, 0, 1.0]
P = [520.0, 0, 319.5, 0, 0, 530.0, 239.5, 0, 0, 0, 1.0, 0]
FOURTEEN = [4.65, 1.35, 1e-4, 2e-4, 0.03, 4.98, 2.9, 0.26, 1e-3, -2e-4, 8e-4, 1e-4, 0.006, -0.003]
POINTS = np.array([[0.3, -0.2, 1.0], [-0.4, 0.3, 1.0], [0.1, 0.35, 1.0], [0.0, 0.0, 2.0]])


def info(model="plumb_bob", d=(), capitals=False, **changes):
    matrices = {
        "k": np.array(K),
        "d": np.array(d, float),
        "r": np.eye(3).ravel(),
        "p": np.array(P),
    }
    matrices |= {n: np.array(changes.pop(n), float) for n in "kdrp" if n in changes}
    if capitals:  # as ROS 1 has them
        matrices = {name.upper(): values for name, values in matrices.items()}
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, **changes.pop("roi", {})}
    fields = {"width": 640, "height": 480, "binning_x": 0, "binning_y": 0, **changes}
    return SimpleNamespace(
        distortion_model=model, roi=SimpleNamespace(**roi), **fields, **matrices
    )


def opencv(d, fisheye, k=K):
    matrix, d = np.array(k).reshape(3, 3), np.array(d, float)
    if fisheye:
        four = np.resize(np.append(d, np.zeros(4)), 4)
        points = cv2.fisheye.projectPoints(
            POINTS[:, None], np.zeros(3), np.zeros(3), matrix, four
        )[0]
    else:
        points = cv2.projectPoints(
            POINTS, np.zeros(3), np.zeros(3), matrix, d if len(d) else None
        )[0]
    return points.reshape(-1, 2) + 0.5


def pixels(camera):
    return camera.project(torch.from_numpy(POINTS))[0].numpy()


FISHEYE = [0.02, -0.01, 0.003, -0.001]


@pytest.mark.parametrize("capitals", [False, True])
@pytest.mark.parametrize(
    ("model", "d"),
    [
        *(("plumb_bob", [*FOURTEEN[:n]]) for n in (0, 4, 5, 8, 12, 14)),
        *(("plumb_bob", [-0.3, 0.1, 1e-3, -1e-3, 0.05, *[0.0] * n]) for n in (0, 3, 7, 9)),
        *(("rational_polynomial", [*FOURTEEN[:n]]) for n in (0, 4, 5, 8, 12, 14)),
        *(("", [*FOURTEEN[:n]]) for n in (0, 4, 5)),
        *((name, [-0.2, 0.05, 1e-3, 0.0]) for name in ("radtan", "Plumb Bob", "brown_conrady")),
        ("none", []),
        ("pinhole", [0.0] * 5),
        ("plumb_bob", [0.0] * 6),
    ],
)
def test_perspective_lenses_as_opencv_has_them(model, d, capitals):
    camera = camera_of(info(model, d, capitals))
    assert camera.lens is Lens.PERSPECTIVE
    assert pixels(camera) == pytest.approx(opencv(d if any(d) else [], False), abs=1e-9)


@pytest.mark.parametrize("model", ["equidistant", "fisheye", "Equidistant", "kannala_brandt4"])
@pytest.mark.parametrize("d", [FISHEYE, [*FISHEYE, 0.0], FISHEYE[:2], [0.0] * 4, [0.0] * 8, []])
def test_fisheye_lenses_as_opencv_has_them(model, d):
    message = info(model, d)
    camera = camera_of(message)
    assert camera.lens is Lens.EQUIDISTANT
    assert pixels(camera) == pytest.approx(opencv(d, True), abs=1e-9)
    assert ("ideal fisheye" in note_on(message)) == (not any(d))


def test_a_fisheye_without_coefficients_that_was_rectified():
    pair = [*P[:3], -40.0, *P[4:]]
    turned = cv2.Rodrigues(np.array([0.0, 0.01, 0.0]))[0].ravel()
    for changes in ({"p": pair}, {"r": turned}):
        message = info("equidistant", [0.0] * 4, **changes)
        assert camera_of(message).lens is Lens.PERSPECTIVE
        assert "rectified" in note_on(message)
    # before rectification K is another matrix than P
    raw = info("equidistant", [0.0] * 4, p=[400.0, *pair[1:]], r=turned)
    assert camera_of(raw).lens is Lens.EQUIDISTANT
    # the parameter says it
    assert camera_of(info("equidistant", FISHEYE), rectified=True).lens is Lens.PERSPECTIVE
    assert note_on(info("equidistant", [0.0] * 4), rectified=True) == ""


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (info(k=[0.0] * 9), "K is zero, the camera is uncalibrated"),
        (info(k=[np.nan] * 9), "K holds numbers that are not finite"),
        (info(k=[520.0, 3.0, *K[2:]]), "K has a skew of 3"),
        (info(k=[-520.0, *K[1:]]), "not positive"),
        (info(k=K[:8]), "K has 8 numbers, not 9"),
        (info(width=0), "width 0"),
        (info("mei", [0.1]), "distortion_model 'mei' is not supported"),
        (info("plumb_bob", [0.1, np.inf, 0, 0]), "D holds numbers that are not finite"),
        (info("plumb_bob", FOURTEEN[:7]), "7 coefficients"),
        (info("plumb_bob", [*FOURTEEN, 1.0]), "15 coefficients"),
        (info("equidistant", [*FISHEYE, 0.1]), "D beyond the fourth"),
        (info(roi={"x_offset": 600, "width": 100, "height": 100}), "ROI"),
    ],
)
def test_what_is_wrong_is_named(message, text):
    with pytest.raises(CameraError, match=text):
        camera_of(message)


def test_only_what_counts_has_to_be_right():
    camera_of(info(p=[np.nan] * 12))
    with pytest.raises(CameraError, match="P is zero"):
        camera_of(info(p=[0.0] * 12), rectified=True)
    with pytest.raises(CameraError, match="P holds"):
        camera_of(info(p=[np.nan] * 12), rectified=True)
    camera_of(info("mei", [np.nan]), rectified=True)


ROS = """
image_width: 640
image_height: 480
camera_name: head
camera_matrix:
  rows: 3
  cols: 3
  data: [520, 0, 319.5, 0, 530, 239.5, 0, 0, 1]
distortion_model: {model}
distortion_coefficients:
  rows: 1
  cols: {count}
  data: {d}
rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}
projection_matrix: {{rows: 3, cols: 4, data: [500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0]}}
"""


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", [-0.3, 0.1, 1e-3, -1e-3, 0.0]),
        ("rational_polynomial", FOURTEEN[:8]),
        ("equidistant", FISHEYE),
    ],
)
def test_camera_calibration_of_ros(model, d, tmp_path):
    file = tmp_path / "head.yaml"
    file.write_text(ROS.format(model=model, count=len(d), d=d))
    camera = read_camera(str(file))
    assert pixels(camera) == pytest.approx(opencv(d, model == "equidistant"), abs=1e-9)


def test_a_file_of_opencv(tmp_path):
    """Its header is no YAML, its matrices have a tag."""
    file = tmp_path / "opencv.yml"
    file.write_text(
        "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\n"
        "camera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [ 520., 0., 319.5, 0., 530., 239.5, 0., 0., 1. ]\n"
        "distortion_coefficients: !!opencv-matrix\n   rows: 1\n   cols: 5\n   dt: d\n"
        "   data: [ -0.3, 0.1, 0.001, -0.001, 0.0 ]\n"
    )
    camera = read_camera(str(file))
    assert pixels(camera) == pytest.approx(opencv([-0.3, 0.1, 1e-3, -1e-3, 0.0], False))


KALIBR = """
cam0:
  camera_model: pinhole
  intrinsics: [520, 530, 319.5, 239.5]
  distortion_model: {model}
  distortion_coeffs: {d}
  resolution: [640, 480]
  rostopic: /cam0/image_raw
cam1:
  T_cn_cnm1:
  - [1.0, 0.0, 0.0, -0.11]
  - [0.0, 1.0, 0.0, 0.0]
  - [0.0, 0.0, 1.0, 0.0]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: eucm
  intrinsics: [0.6, 1.1, 300, 310, 319.5, 239.5]
  distortion_model: none
  distortion_coeffs: []
  resolution: [640, 480]
"""


def test_chains_of_kalibr(tmp_path):
    file = tmp_path / "camchain.yaml"
    for model, d, fisheye in (
        ("radtan", [-0.3, 0.1, 1e-3, -1e-3], False),
        ("equidistant", FISHEYE, True),
        ("none", [], False),
    ):
        file.write_text(KALIBR.format(model=model, d=d))
        camera = read_camera(f"{file}:cam0")
        assert pixels(camera) == pytest.approx(opencv(d, fisheye), abs=1e-9)
    file.write_text(KALIBR.format(model="fov", d=[0.9]))
    assert read_camera(f"{file}:cam0").lens is Lens.FIELD_OF_VIEW
    unified = read_camera(f"{file}:cam1")
    assert unified.lens is Lens.UNIFIED
    assert unified.centre.tolist() == [320, 240]
    with pytest.raises(CameraError, match="cam0, cam1: choose one"):
        read_camera(str(file))
    with pytest.raises(CameraError, match="no camera cam7"):
        read_camera(f"{file}:cam7")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("pinhole", "omni", "camera_model 'omni' is not supported"),
        ("radtan", "ftheta", "'ftheta' with 4 coefficients is not supported"),
        ("[520, 530, 319.5, 239.5]", "[520, 530]", "intrinsics of 2"),
        ("[520, 530, 319.5, 239.5]", "many", "intrinsics: expected a list of numbers"),
        ("[640, 480]", "[640]", "resolution of 1"),
        ("[520, 530, 319.5, 239.5]", "[.nan, 530, 319.5, 239.5]", "not finite"),
    ],
)
def test_mistakes_in_a_chain(old, new, text, tmp_path):
    file = tmp_path / "chain.yaml"
    content = KALIBR.split("cam1:")[0].format(model="radtan", d=[0.1, 0.0, 0.0, 0.0])
    file.write_text(content.replace(old, new))
    with pytest.raises(CameraError, match=text):
        read_camera(str(file))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not YAML"),
        ("[1, 2]", "no calibration"),
        ("a: 1", "neither camera_matrix"),
        ("camera_matrix: {data: [1]}\nimage_width: 6\nimage_height: 4", "camera_matrix has 1"),
        ("camera_matrix: {data: x}\nimage_width: 6\nimage_height: 4", "expected a list"),
        ("camera_matrix: {data: [1]}\nimage_width: big", "image_width is 'big'"),
    ],
)
def test_files_that_are_no_calibration(content, text, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(CameraError, match=text) as raised:
        read_camera(str(file))
    assert str(raised.value).startswith(str(file))


def test_words():
    assert read_camera("PINHOLE 640 480 520 530 320 240").focal.tolist() == [520, 530]
    assert read_camera("PINHOLE,640,480,520,530,320,240").focal.tolist() == [520, 530]
    for words, text in (
        ("PINHOLE 640 480", "4 parameters, 0 were given"),
        ("nothing", "neither a file nor"),
        ("", "neither a file nor"),
        ("none.yaml", "no such file"),
    ):
        with pytest.raises(CameraError, match=text):
            read_camera(words)


def test_intrinsics_of_transforms():
    angle = 2 * math.atan(320 / 520)
    for content in (
        {"fl_x": 520.0, "fl_y": 530.0, "cx": 320.0, "cy": 240.0, "w": 640, "h": 480},
        {"fl_x": 1040, "fl_y": 1060, "cx": 640, "cy": 480, "w": 1280, "h": 960},
        {"camera_angle_x": angle, "fl_y": 530.0},
        {"camera_angle_x": angle, "camera_angle_y": 2 * math.atan(240 / 530)},
    ):
        camera = camera_of_intrinsics(content, 640, 480)
        assert camera.size.tolist() == [640, 480]
        assert camera.focal.tolist() == pytest.approx([520, 530])
        assert camera.centre.tolist() == [320, 240]
    # an angle of view belongs to the width that the file tells, not to the image's
    scaled = camera_of_intrinsics({"camera_angle_x": angle, "w": 1280, "h": 960}, 640, 480)
    assert scaled.focal.tolist() == pytest.approx([520, 520])
    lens = {"k1": 0.1, "k2": 0.02, "p1": 1e-3, "p2": -1e-3, "k3": 0.01, "k4": 0.2, "k6": 0.01}
    rational = camera_of_intrinsics({"fl_x": 520.0, **lens}, 640, 480)
    d = [lens.get(n, 0.0) for n in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")]
    expected = opencv(d, False, [520, 0, 319.5, 0, 520, 239.5, 0, 0, 1])
    assert pixels(rational) == pytest.approx(expected, abs=1e-9)
    four = dict(zip(("k1", "k2", "k3", "k4"), FISHEYE, strict=True))
    for flag in (
        {"is_fisheye": True},
        {"camera_model": "OPENCV_FISHEYE"},
        {"camera_model": "opencv-fisheye"},
        {"camera_model": "OPENCV", "is_fisheye": True},
    ):
        fisheye = camera_of_intrinsics({"fl_x": 520.0, **four, **flag}, 640, 480)
        expected = opencv(FISHEYE, True, [520, 0, 319.5, 0, 520, 239.5, 0, 0, 1])
        assert pixels(fisheye) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "neither fl_x nor camera_angle_x"),
        ({"fl_x": "wide"}, "fl_x is 'wide'"),
        ({"fl_x": float("nan")}, "fl_x is nan"),
        ({"camera_angle_x": 4.0}, "camera_angle_x is 4"),
        ({"fl_x": 520, "w": 480, "h": 640}, "another shape"),
        ({"fl_x": 520, "w": 0, "h": 480}, "w, h are 0"),
        ({"fl_x": 520, "camera_model": "EQUIRECTANGULAR"}, "'EQUIRECTANGULAR' is not supported"),
        ({"fl_x": 520, "is_fisheye": True, "p1": 0.1}, "p1 of a fisheye"),
        ({"fl_x": 520, "is_fisheye": True, "camera_model": "SIMPLE_PINHOLE"}, "is_fisheye with"),
    ],
)
def test_impossible_intrinsics(content, text):
    with pytest.raises(CameraError, match=text):
        camera_of_intrinsics(content, 640, 480)


def test_a_fisheye_of_opencv(tmp_path):
    """Its sample program has a flag where ROS has a name."""
    file = tmp_path / "fisheye.yml"
    file.write_text(
        ROS.format(model="x", count=4, d=FISHEYE).replace(
            "distortion_model: x", "fisheye_model: 1"
        )
    )
    assert pixels(read_camera(str(file))) == pytest.approx(opencv(FISHEYE, True), abs=1e-9)


def test_a_sensor_of_euroc_and_a_message_that_was_printed(tmp_path):
    d = [-0.3, 0.1, 1e-3, -1e-3]
    sensor = tmp_path / "sensor.yaml"
    sensor.write_text(
        f"sensor_type: camera\ncamera_model: pinhole\nintrinsics: [520, 530, 319.5, 239.5]\n"
        f"distortion_model: radial-tangential\ndistortion_coefficients: {d}\n"
        "resolution: [640, 480]\n"
    )
    printed = tmp_path / "info.yaml"
    printed.write_text(
        f"header:\n  frame_id: camera\nheight: 480\nwidth: 640\ndistortion_model: plumb_bob\n"
        f"d: {d}\nk: {K}\nr: [1, 0, 0, 0, 1, 0, 0, 0, 1]\np: {P}\nbinning_x: 0\nbinning_y: 0\n"
        "roi: {x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}\n---\n"
    )
    for file in (sensor, printed):
        assert pixels(read_camera(str(file))) == pytest.approx(opencv(d, False), abs=1e-9)


def test_a_chain_whose_coefficients_are_missing(tmp_path):
    file = tmp_path / "chain.yaml"
    content = KALIBR.split("cam1:")[0].format(model="radtan", d=[0.1, 0.0, 0.0, 0.0])
    file.write_text(content.replace("distortion_coeffs", "coefficients"))
    with pytest.raises(CameraError, match="cam0: distortion_coeffs is missing"):
        read_camera(str(file))
    file.write_text(content.replace("cam0:", "0:"))
    assert read_camera(f"{file}:0").focal[0] == 520


def test_matrices_that_are_not_what_they_should_be():
    by_columns = np.array(K).reshape(3, 3).T.ravel()
    with pytest.raises(CameraError, match="K is not of the form"):
        camera_of(info(k=by_columns))
    with pytest.raises(CameraError, match=r"focal length of 0\.8"):
        camera_of(info(k=[0.8, 0, 0.5, 0, 0.8, 0.5, 0, 0, 1]))
    assert camera_of(info(k=[520.0, 1e-12, *K[2:]])).focal[0] == 520


def test_polynomials_of_nerfstudio():
    """Its k4 is a numerator; OpenCV's, which has k5 and k6 beside it, is not."""
    params = [0.1, 0.02, 0.003, 0.0004, 1e-3, -1e-3]
    listed = camera_of_intrinsics({"fl_x": 520.0, "distortion_params": params}, 640, 480)
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    named = camera_of_intrinsics(
        {"fl_x": 520.0, **dict(zip(names, params, strict=True))}, 640, 480
    )
    assert torch.equal(listed.numbers(), named.numbers())
    x, y = 0.3, -0.2
    u = x * x + y * y
    radial = 1 + u * (0.1 + u * (0.02 + u * (0.003 + u * 0.0004)))
    expected = 520 * (x * radial + 2e-3 * x * y - 1e-3 * (u + 2 * x * x)) + 320
    assert pixels(listed)[0, 0] == pytest.approx(expected)
    with pytest.raises(CameraError, match="distortion_params"):
        camera_of_intrinsics({"fl_x": 520.0, "distortion_params": [0.1]}, 640, 480)
