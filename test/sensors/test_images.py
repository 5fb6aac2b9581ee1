"""One reader of images: every encoding, padded or not, whole or not."""

from __future__ import annotations

import io
import struct
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.sensors import (
    ImageError,
    depth_of,
    image_of,
    image_size,
    read_depth,
    read_image,
    require_size,
)
from pixloc_ros.sensors.images import _cut
from pixloc_ros.sensors.raw_images import ENCODINGS

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 12, 10
RGB = RNG.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
SMOOTH = np.dstack(
    [np.linspace(a, b, 64 * 48).reshape(48, 64) for a, b in ((0, 250), (9, 90), (200, 50))]
)
SMOOTH = SMOOTH.astype(np.uint8)
GRAY = SMOOTH[..., 0]


def raw(encoding, pixels, padding=0, big_endian=False, height=None, width=None, short=False):
    """A message; the last row may lack its padding, as some drivers send it."""
    rows = np.ascontiguousarray(pixels)
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    step = rows.shape[1] + padding
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77).tobytes()
    return SimpleNamespace(
        height=height or pixels.shape[0],
        width=width or pixels.shape[1],
        encoding=encoding,
        step=step,
        is_bigendian=big_endian,
        data=padded[: len(padded) - padding] if short else padded,
    )


def packed(form, data):
    return SimpleNamespace(format=form, data=bytes(data))


def jpeg(pixels):
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


WIDE = {"8": (np.uint8, 1), "16": (np.uint16, 257)}


@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("bits", WIDE)
@pytest.mark.parametrize("name", ["mono", "rgb", "bgr", "rgba", "bgra"])
def test_plain_encodings(name, bits, padding):
    kind, factor = WIDE[bits]
    alpha = np.full((HEIGHT, WIDTH, 1), 9, np.uint8)
    stored = {
        "mono": RGB[..., :1],
        "rgb": RGB,
        "bgr": RGB[..., ::-1],
        "rgba": np.concatenate([RGB, alpha], 2),
        "bgra": np.concatenate([RGB[..., ::-1], alpha], 2),
    }[name]
    expected = RGB[..., :1].repeat(3, 2) if name == "mono" else RGB
    pixels = stored.astype(kind) * factor
    for encoding in (f"{name}{bits}", f"{name}{bits}".upper()):
        assert np.array_equal(image_of(raw(encoding, pixels, padding)), expected)
    assert np.array_equal(image_of(raw(f"{name}{bits}", pixels, padding, short=True)), expected)
    swapped = raw(f"{name}{bits}", pixels.byteswap(), padding, big_endian=True)
    assert np.array_equal(image_of(swapped), expected)


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("8UC1", RGB[..., 0]),
        ("8UC3", RGB[..., ::-1]),
        ("8UC4", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ("16UC1", RGB[..., 0].astype(np.uint16) * 257),
        ("16UC3", RGB[..., ::-1].astype(np.uint16) * 257),
        ("32FC1", RGB[..., 0].astype(np.float32) / 255),
        ("32FC3", RGB[..., ::-1].astype(np.float32) / 255),
    ],
)
def test_types_of_opencv_have_its_order_of_colours(encoding, stored):
    expected = RGB if stored.ndim == 3 else RGB[..., :1].repeat(3, 2)
    assert np.array_equal(image_of(raw(encoding, stored)), expected)


def test_sixteen_bits_are_rounded_over_their_whole_range():
    values = np.array([[0, 128, 129, 385, 386, 30000, 65535]], np.uint16)
    assert image_of(raw("mono16", values))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 117, 255]


@pytest.mark.parametrize("bits", WIDE)
@pytest.mark.parametrize("first", ["rggb", "bggr", "gbrg", "grbg"])
def test_mosaics_name_their_first_rows(first, bits):
    kind, factor = WIDE[bits]
    colour = {"r": 200, "g": 120, "b": 40}
    mosaic = np.zeros((HEIGHT, WIDTH), kind)
    for place, name in enumerate(first):
        mosaic[place // 2 :: 2, place % 2 :: 2] = colour[name] * factor
    decoded = image_of(raw(f"bayer_{first}{bits}", mosaic))
    assert np.abs(decoded[2:-2, 2:-2].astype(int) - [200, 120, 40]).max() <= 1


def yuv_planes(rgb):
    """Luma, and chroma of every pixel, video range of BT.601."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return (np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in (y, u, v))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    "encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21", "nv24"]
)
def test_luma_and_chroma(encoding, padding):
    y, u, v = yuv_planes(SMOOTH)
    height, width = y.shape
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        chroma = np.where(np.arange(width) % 2 == 0, u, np.roll(v, 1, 1))
        pairs = (chroma, y) if encoding in ("yuv422", "uyvy") else (y, chroma)
        rows = np.stack(pairs, -1).reshape(height, -1)
    elif encoding == "nv24":
        # two rows of the luma's length hold one of chroma
        rows = np.concatenate([y, np.stack([u, v], -1).reshape(2 * height, width)])
    else:
        halves = (u, v) if encoding == "nv12" else (v, u)
        small = np.stack([half[::2, ::2] for half in halves], -1)
        rows = np.concatenate([y, small.reshape(height // 2, width)])
    message = raw(encoding, rows, padding, height=height, width=width)
    decoded = image_of(message)
    assert decoded.shape == SMOOTH.shape
    assert np.abs(decoded[2:-2, 2:-2].astype(int) - SMOOTH[2:-2, 2:-2]).mean() < 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "32FC7"}, "encoding '32FC7' is not supported"),
        ({"encoding": ""}, "encoding '' is not supported"),
        ({"width": 0}, "0 x 12"),
        ({"height": 100000, "width": 100000, "step": 300000}, "more than"),
        ({"step": 29}, "rows of 29 bytes"),
        ({"height": 13}, "13 rows of 30 need"),
        ({"data": b""}, "0 bytes"),
        ({"encoding": "yuv422", "width": 9}, "odd size"),
        ({"encoding": "nv12", "height": 11, "step": 10}, "odd size"),
    ],
)
def test_impossible_messages(change, text):
    message = raw("rgb8", RGB)
    vars(message).update(change)
    with pytest.raises(ImageError, match=text):
        image_of(message)


def test_depth_is_no_image_and_an_image_no_depth():
    metres = raw("32FC1", np.full((HEIGHT, WIDTH), 3.0, np.float32))
    with pytest.raises(ImageError, match="depth"):
        image_of(metres)
    with pytest.raises(ImageError, match="not depth"):
        depth_of(raw("rgb8", RGB))
    with pytest.raises(ImageError, match="not a depth image"):
        depth_of(packed("bgr8; jpeg compressed bgr8", jpeg(SMOOTH)))
    with pytest.raises(ImageError, match="of depth"):
        image_of(packed("16UC1; compressedDepth png", b"\0" * 40))


@pytest.mark.parametrize("padding", [0, 4])
def test_raw_depth(padding):
    millimetres = np.array([[0, 1, 1500, 65535]], np.uint16)
    for encoding in ("16UC1", "mono16"):
        found = depth_of(raw(encoding, millimetres, padding))
        assert found.tolist() == pytest.approx(np.array([[0, 0.001, 1.5, 65.535]]))
    metres = np.array([[np.nan, np.inf, -1.0, 2.5]], np.float32)
    assert depth_of(raw("32FC1", metres, padding)).tolist() == [[0, 0, 0, 2.5]]


def compressed_depth(pixels, kind=0, first=0.0, second=0.0):
    return struct.pack("<iff", kind, first, second) + cv2.imencode(".png", pixels)[1].tobytes()


def test_compressed_depth():
    pixels = np.array([[0, 500, 4000]], np.uint16)
    message = packed("16UC1; compressedDepth png", compressed_depth(pixels))
    assert depth_of(message).tolist() == pytest.approx(np.array([[0, 0.5, 4.0]]))
    # of metres the inverse is stored, quantized: a / depth + b
    first, second = 100.0, 2.0
    stored = np.array([[0, round(first / 0.8 + second), round(first / 4 + second)]], np.uint16)
    message = packed(
        "32FC1; compressedDepth png", compressed_depth(stored, first=first, second=second)
    )
    assert depth_of(message)[0].tolist() == pytest.approx([0, 0.8, 4.0], abs=0.01)
    plain = packed("png", cv2.imencode(".png", pixels)[1].tobytes())
    assert depth_of(plain).tolist() == pytest.approx(np.array([[0, 0.5, 4.0]]))
    for form, data, text in (
        ("16UC1; compressedDepth rvl", b"\0" * 40, "RVL is not supported"),
        ("16UC1; compressedDepth png", b"\0" * 12, "12 bytes"),
        ("16UC1; compressedDepth png", compressed_depth(pixels)[:40], "not a readable"),
        ("32FC1; compressedDepth png", compressed_depth(pixels), "quantization"),
    ):
        with pytest.raises(ImageError, match=text):
            depth_of(packed(form, data))


def near(decoded, expected, bound=4):
    return (
        decoded.shape == expected.shape
        and np.abs(decoded[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).mean() < bound
    )


BGR = np.ascontiguousarray(SMOOTH[..., ::-1])
MOSAIC = np.zeros((48, 64), np.uint8)
for _place, _channel in enumerate((0, 1, 1, 2)):
    MOSAIC[_place // 2 :: 2, _place % 2 :: 2] = SMOOTH[_place // 2 :: 2, _place % 2 :: 2, _channel]


def test_compressed_images_as_image_transport_writes_them():
    gray = GRAY[..., None].repeat(3, 2)
    for form, data, expected in (
        ("jpeg", jpeg(BGR), SMOOTH),
        ("", jpeg(BGR), SMOOTH),
        ("bgr8; jpeg compressed bgr8", jpeg(BGR), SMOOTH),
        ("rgb8; jpeg compressed bgr8", jpeg(BGR), SMOOTH),
        # what is not named bgr8 lies in the file in the order of the encoding
        ("rgb8; jpeg compressed ", jpeg(SMOOTH), SMOOTH),
        ("mono8; jpeg compressed ", jpeg(GRAY), gray),
        ("jpeg", jpeg(GRAY), gray),
        ("mono16; png compressed ", png(GRAY.astype(np.uint16) * 257), gray),
        ("bayer_rggb8; jpeg compressed ", png(MOSAIC), SMOOTH),
        ("bayer_rggb8; png compressed ", png(MOSAIC), SMOOTH),
        ("bayer_rggb16; png compressed ", png(MOSAIC.astype(np.uint16) * 257), SMOOTH),
        ("bayer_rggb8; jpeg compressed bgr8", jpeg(BGR), SMOOTH),
        ("png", png(BGR.astype(np.uint16) * 257), SMOOTH),
        ("rgba8; png compressed ", png(np.dstack([BGR, GRAY])), SMOOTH[..., ::-1]),
    ):
        decoded = image_of(packed(form, data))
        assert near(decoded, expected, 9 if "bayer" in form else 4), form


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_orientation_in_exif_turns_nothing(tmp_path):
    exif = Picture.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Picture.fromarray(SMOOTH).save(stream, "JPEG", quality=98, exif=exif)
    assert near(image_of(packed("jpeg", stream.getvalue())), SMOOTH)
    file = tmp_path / "turned.jpg"
    file.write_bytes(stream.getvalue())
    assert near(read_image(file), SMOOTH)
    assert image_size(file) == (64, 48)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_images_that_are_cut_are_refused_wherever_they_are_cut(suffix, tmp_path):
    data = cv2.imencode(suffix, BGR)[1].tobytes()
    for length in sorted({*range(0, len(data), max(len(data) // 200, 1)), len(data) - 1}):
        with pytest.raises(ImageError):
            image_of(packed("jpeg", data[:length]))
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="cut"):
        read_image(file)


def test_a_preview_in_a_jpeg_is_not_its_end():
    preview = jpeg(BGR[:8, :8])
    whole = jpeg(BGR)
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    with_preview = whole[:2] + segment + whole[2:]
    assert near(image_of(packed("jpeg", with_preview)), SMOOTH)
    with pytest.raises(ImageError):
        image_of(packed("jpeg", with_preview[: len(segment) + 200]))


def test_files(tmp_path):
    cv2.imwrite(str(tmp_path / "depth.png"), np.array([[0, 5000]], np.uint16))
    assert read_depth(tmp_path / "depth.png", 0.0002).tolist() == pytest.approx(
        np.array([[0, 1.0]])
    )
    cv2.imwrite(str(tmp_path / "colour.png"), BGR)
    with pytest.raises(ImageError, match=r"colour.png.*not a depth image"):
        read_depth(tmp_path / "colour.png", 0.001)
    with pytest.raises(ImageError, match="no such image"):
        read_image(tmp_path / "none.png")
    camera = Camera.from_colmap("PINHOLE", 64, 48, [60, 60, 32, 24])
    require_size(camera, 64, 48)
    with pytest.raises(CameraError, match=r"a.jpg: 48 x 64 pixels, its camera has 64 x 48"):
        require_size(camera, 48, 64, "a.jpg")


CV_BRIDGE = """
import sys, numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
given, found = np.load(sys.argv[1]), {}
for key in given.files:
    name, big, pixels = key.split(":")[0], int(key.split(":")[1]), given[key]
    message = Image(height=12, width=10, encoding=name, is_bigendian=big)
    message.step, message.data = pixels.shape[1], pixels.tobytes()
    found[key] = CvBridge().imgmsg_to_cv2(message, "rgb8")
np.savez(sys.argv[2], **found)
"""
SYSTEM = "/usr/bin/python3"


def test_cv_bridge_gives_the_same_pixels(tmp_path):
    """Of every encoding that it knows; its rows must not be padded, or it shears them."""
    probe = "import cv_bridge, sensor_msgs.msg"
    try:
        there = subprocess.run([SYSTEM, "-c", probe], capture_output=True, env={}).returncode == 0
    except OSError:
        there = False
    if not there:
        pytest.skip("cv_bridge is not installed for the system's Python")
    rng = np.random.default_rng(1)
    known = [
        n for n in ENCODINGS if n.startswith(("mono", "rgb", "bgr", "bayer")) or n == "yuv422"
    ]
    rows = {
        f"{name}:{big}": rng.integers(
            0,
            255,
            (HEIGHT, WIDTH * ENCODINGS[name].channels * np.dtype(ENCODINGS[name].kind).itemsize),
            np.uint8,
        )
        for name in known
        for big in ((0, 1) if name.endswith("16") else (0,))
    }
    np.savez(tmp_path / "rows.npz", **rows)
    (tmp_path / "bridge.py").write_text(CV_BRIDGE)
    command = [SYSTEM, "bridge.py", "rows.npz", "found.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "found.npz")
    for key, stored in rows.items():
        name, big = key.split(":")
        message = SimpleNamespace(
            **{"height": HEIGHT, "width": WIDTH, "encoding": name, "step": stored.shape[1]},
            **{"is_bigendian": int(big), "data": stored.tobytes()},
        )
        assert np.array_equal(image_of(message), theirs[key]), key


def test_a_photograph_with_a_film_behind_it():
    """Telephones append a film to a JPEG: whatever it holds, the photograph is whole."""
    film = bytes(np.random.default_rng(5).integers(0, 255, 400_000, np.uint8))
    whole = jpeg(BGR)
    assert near(image_of(packed("jpeg", whole + film)), SMOOTH)
    with pytest.raises(ImageError):
        image_of(packed("jpeg", whole[:-300]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_every_orientation_in_every_format(suffix, orientation, tmp_path):
    exif = Picture.Exif()
    exif[274] = orientation
    file = tmp_path / f"a.{suffix.lower()}"
    Picture.fromarray(SMOOTH).save(file, suffix, exif=exif)
    assert near(read_image(file), SMOOTH)
    assert image_size(file) == (64, 48)


def test_images_are_no_views_of_messages():
    message = raw("rgb8", RGB)
    message.data = bytearray(message.data)
    read = image_of(message)
    read[:] = 0
    message.data[:] = b"\xff" * len(message.data)
    assert not read.any()


def test_the_missing_end_of_a_jpeg_is_seen_whatever_decodes_it():
    """Some OpenCV fill what is missing with gray, others refuse it."""
    whole = np.frombuffer(jpeg(BGR), np.uint8)
    assert not _cut(whole)
    assert not _cut(np.concatenate([whole, np.full(9, 0xFF, np.uint8)]))
    assert all(_cut(whole[:length]) for length in range(4, len(whole)))
    progressive = io.BytesIO()
    Picture.fromarray(SMOOTH).save(progressive, "JPEG", progressive=True)
    scans = np.frombuffer(progressive.getvalue(), np.uint8)
    assert not _cut(scans)
    assert all(_cut(scans[:length]) for length in range(4, len(scans)))
