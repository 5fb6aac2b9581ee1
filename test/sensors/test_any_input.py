"""Whatever comes in: an answer or one line, never a traceback."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixloc_ros.errors import InputError
from pixloc_ros.sensors import camera_of, depth_of, image_of, note_on
from pixloc_ros.sensors.calibration_files import read_camera
from pixloc_ros.sensors.nerf_intrinsics import KEYS, camera_of_intrinsics
from pixloc_ros.sensors.raw_images import ENCODINGS
from pixloc_ros.sensors.transform_tree import TransformTree

MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -1.0, 520.0, 320.0, math.nan, math.inf, -math.inf, 1e300, 1e-300]),
)
ANYTHING = st.recursive(
    st.one_of(NUMBERS, st.integers(), st.text(max_size=8), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
# as they are, in capitals, and what is none
NAMES = st.one_of(
    st.sampled_from([*ENCODINGS, *(n.upper() for n in ENCODINGS), "8SC1", "64FC4", "jpeg"]),
    st.text(max_size=10),
)


def attempt(call):
    """The answer, and None; or None, and the one line that says why there is none."""
    try:
        return call(), None
    except InputError as error:
        line = str(error)
    assert line
    assert "\n" not in line
    assert len(line) < 2000
    return None, line


@MANY
@given(
    encoding=NAMES,
    height=st.integers(0, 20),
    width=st.integers(0, 20),
    step=st.integers(0, 100),
    big=st.booleans(),
    data=st.binary(max_size=2500),
)
def test_raw_images(encoding, height, width, step, big, data):
    message = SimpleNamespace(
        **{"encoding": encoding, "height": height, "width": width, "step": step},
        **{"is_bigendian": big, "data": data},
    )
    for read, kind in ((image_of, np.uint8), (depth_of, np.float32)):
        image, refused = attempt(lambda read=read: read(message))
        if refused is None:
            assert image.shape[:2] == (height, width)
            assert image.dtype == kind


FORMS = st.sampled_from(
    [
        *("", "jpeg", "png", "rgb8; jpeg compressed ", "bayer_rggb8; jpeg compressed "),
        *("16UC1; compressedDepth png", "32FC1; compressedDepth png", "; compressedDepth rvl"),
        *("mono16; png compressed ", "h264", "bayer_rggb16; png compressed rgb16", ";;;"),
    ]
)
PIXELS = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
FILES = [
    cv2.imencode(suffix, pixels)[1].tobytes()
    for suffix in (".jpg", ".png", ".bmp", ".tiff", ".webp")
    for pixels in (PIXELS, PIXELS[..., 0])
] + [cv2.imencode(".png", PIXELS.astype(np.uint16) * 257)[1].tobytes()]


@MANY
@given(
    form=FORMS,
    data=st.one_of(st.binary(max_size=200), st.sampled_from(FILES)),
    cut=st.floats(0, 1),
    header=st.binary(max_size=12),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
)
def test_compressed_images(form, data, cut, header, changes):
    changed = bytearray((header if "Depth" in form else b"") + data[: round(cut * len(data))])
    for place, value in changes:
        if changed:
            changed[place % len(changed)] = value
    message = SimpleNamespace(format=form, data=bytes(changed))
    for read, dimensions in ((image_of, 3), (depth_of, 2)):
        image, refused = attempt(lambda read=read: read(message))
        assert refused or image.ndim == dimensions


@MANY
@given(
    model=st.one_of(
        st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "fisheye", ""]),
        st.text(max_size=6),
    ),
    k=st.lists(NUMBERS, max_size=9),
    d=st.lists(NUMBERS, max_size=16),
    p=st.lists(NUMBERS, max_size=12),
    size=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    window=st.tuples(*[st.integers(0, 3000)] * 4),
    binning=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    rectified=st.booleans(),
)
def test_camera_infos(model, k, d, p, size, window, binning, rectified):
    def filled(given, usual):
        return [*given, *usual[len(given) :]]

    x, y, width, height = window
    info = SimpleNamespace(
        distortion_model=model,
        k=filled(k, [520.0, 0.0, 320.0, 0.0, 520.0, 240.0, 0.0, 0.0, 1.0]),
        p=filled(p, [520.0, 0.0, 320.0, 0.0, 0.0, 520.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        r=np.eye(3).ravel(),
        d=d,
        width=size[0],
        height=size[1],
        binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height),
    )
    camera, refused = attempt(lambda: camera_of(info, rectified))
    if refused is None:
        note_on(info, rectified)
        assert bool((camera.focal > 0).all())
        assert bool(camera.numbers()[:6].isfinite().all())


@MANY
@given(content=st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=8))
def test_intrinsics_of_transforms(content):
    camera, refused = attempt(lambda: camera_of_intrinsics(content, 640, 480))
    assert refused or camera.size.tolist() == [640, 480]


CALIBRATIONS = (
    {
        "image_width": 640,
        "image_height": 480,
        "camera_matrix": {"rows": 3, "cols": 3, "data": [520, 0, 320, 0, 520, 240, 0, 0, 1]},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, 0, 0, 0, 0]},
    },
    {
        "cam0": {
            "camera_model": "pinhole",
            "intrinsics": [520, 520, 320, 240],
            "distortion_model": "radtan",
            "distortion_coeffs": [0.1, 0, 0, 0],
            "resolution": [640, 480],
        }
    },
)


@MANY
@given(
    which=st.sampled_from(CALIBRATIONS),
    key=st.integers(0, 10),
    value=ANYTHING,
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_calibration_files(which, key, value, cut, tmp_path):
    content = json.loads(json.dumps(which))
    inner = content.get("cam0", content)
    inner[list(inner)[key % len(inner)]] = value
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
    except yaml.YAMLError:
        return
    file = tmp_path / "camera.yaml"
    file.write_text(text[: round(cut * len(text))], encoding="utf-8", errors="replace")
    camera, refused = attempt(lambda: read_camera(str(file)))
    if refused is None:
        assert bool(camera.focal.isfinite().all())
    else:
        assert str(file) in refused


@MANY
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from("abcd"),
            st.one_of(st.none(), st.integers(0, 20)),
            st.tuples(*[NUMBERS] * 7),
        ),
        max_size=20,
    ),
    asked=st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.integers(0, 20)),
)
def test_trees_of_transforms(entries, asked):
    tree = TransformTree()
    for parent, child, stamp, numbers in entries:
        tree.put(parent, child, stamp, numbers)
    pose, refused = attempt(lambda: tree.lookup(*asked))
    assert refused or pose.matrix().isfinite().all()


def test_whole_files_are_read():
    """What the tests above change is readable as it is."""
    for data in FILES:
        assert image_of(SimpleNamespace(format="", data=data)).shape == (24, 32, 3)
    with pytest.raises(InputError):
        image_of(SimpleNamespace(format="", data=FILES[0][:-40]))
