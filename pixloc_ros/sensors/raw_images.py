"""Raw pixels in the encodings of `sensor_msgs/image_encodings` -> RGB, or depth."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import cv2
import numpy as np

from pixloc_ros.sensors.errors import ImageError

LARGEST = 200_000_000
"""Pixels of an image, at most."""


@dataclass(frozen=True)
class Encoding:
    """How pixels lie in a row. kind: numpy's type. conversion: OpenCV's to RGB, or None.

    planes: rows of bytes that follow the image's own, as a multiple of its height.
    """

    kind: str
    channels: int
    conversion: int | None = None
    planes: float = 0.0


_U8, _U16, _F32 = "u1", "u2", "f4"
# OpenCV names a mosaic by its second row, ROS by its first
_MOSAICS = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_GRAY = cv2.COLOR_GRAY2RGB

ENCODINGS: dict[str, Encoding] = {
    **{
        f"{name}{bits}": Encoding(kind, channels, conversion)
        for bits, kind in (("8", _U8), ("16", _U16))
        for name, channels, conversion in (
            ("mono", 1, _GRAY),
            ("rgb", 3, None),
            ("bgr", 3, cv2.COLOR_BGR2RGB),
            ("rgba", 4, cv2.COLOR_RGBA2RGB),
            ("bgra", 4, cv2.COLOR_BGRA2RGB),
        )
    },
    **{
        f"bayer_{name}{bits}": Encoding(kind, 1, conversion)
        for bits, kind in (("8", _U8), ("16", _U16))
        for name, conversion in _MOSAICS.items()
    },
    # of OpenCV's types, in OpenCV's order of colours
    "8uc1": Encoding(_U8, 1, _GRAY),
    "8uc3": Encoding(_U8, 3, cv2.COLOR_BGR2RGB),
    "8uc4": Encoding(_U8, 4, cv2.COLOR_BGRA2RGB),
    "16uc1": Encoding(_U16, 1, _GRAY),
    "16uc3": Encoding(_U16, 3, cv2.COLOR_BGR2RGB),
    "16uc4": Encoding(_U16, 4, cv2.COLOR_BGRA2RGB),
    "32fc1": Encoding(_F32, 1, _GRAY),
    "32fc3": Encoding(_F32, 3, cv2.COLOR_BGR2RGB),
    # with their names since Iron
    "yuv422": Encoding(_U8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Encoding(_U8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Encoding(_U8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Encoding(_U8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": Encoding(_U8, 1, cv2.COLOR_YUV2RGB_NV12, 0.5),
    "nv21": Encoding(_U8, 1, cv2.COLOR_YUV2RGB_NV21, 0.5),
    "nv24": Encoding(_U8, 1, None, 2.0),
}
_PAIRED = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")


def decode_raw(
    data: np.ndarray, encoding: str, height: int, width: int, step: int, big_endian: bool
) -> np.ndarray:
    """RGB uint8 (H, W, 3). data: bytes as (n,) uint8. step: bytes of a row, padding included.

    16 bits are scaled to 8, single precision from 0 to 1. Raises ImageError.
    """
    name, found = _known(encoding)
    pixels = _pixels(data, name, found, height, width, step, big_endian)
    if name == "nv24":
        return _nv24(pixels, height, width)
    if found.conversion is not None:
        pixels = cv2.cvtColor(pixels, found.conversion)
    return to_bytes(pixels, encoding)


def decode_raw_depth(
    data: np.ndarray, encoding: str, height: int, width: int, step: int, big_endian: bool
) -> np.ndarray:
    """Metres (H, W) float32, zero where there is none (REP 118). Raises ImageError."""
    name, found = _known(encoding)
    if name not in ("16uc1", "mono16", "32fc1"):
        raise ImageError(f"encoding {encoding!r} is not depth (16UC1 or 32FC1)")
    return metres(_pixels(data, name, found, height, width, step, big_endian))


def metres(depth: np.ndarray) -> np.ndarray:
    """Depth as (H, W) float32 metres, zero for none: of uint16 millimetres, or of metres."""
    if depth.dtype == np.uint16:
        return depth.astype(np.float32) / np.float32(1000)
    usable = np.isfinite(depth) & (depth > 0)
    return np.where(usable, depth, 0).astype(np.float32)


def to_bytes(pixels: np.ndarray, what: str) -> np.ndarray:
    """uint8 of uint8, of uint16 over its whole range, or of floats from 0 to 1."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    if pixels.dtype != np.float32:
        raise ImageError(f"{what!r}: pixels of type {pixels.dtype}")
    known = np.nan_to_num(pixels, nan=0.0, posinf=np.inf, neginf=-np.inf)
    if known.max(initial=0) > 1 + 1e-3 or known.min(initial=0) < -1e-3:
        raise ImageError(f"{what!r} holds values beyond 0 to 1: is it an image of depth?")
    return cv2.convertScaleAbs(known, alpha=255)


def from_mosaic(pixels: np.ndarray, encoding: str) -> np.ndarray | None:
    """RGB of a mosaic (H, W), where the encoding is one; else None."""
    found = ENCODINGS.get(encoding.lower())
    if found is None or not encoding.lower().startswith("bayer_") or pixels.ndim != 2:
        return None
    assert found.conversion is not None
    return cv2.cvtColor(pixels, found.conversion)


def _known(encoding: str) -> tuple[str, Encoding]:
    name = encoding.strip().lower()
    if name not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise ImageError(f"image encoding {encoding!r} is not supported; supported: {known}")
    return name, ENCODINGS[name]


def _pixels(
    data: np.ndarray,
    name: str,
    encoding: Encoding,
    height: int,
    width: int,
    step: int,
    big_endian: bool,
) -> np.ndarray:
    """(H, W) or (H, W, channels), of planes (rows of all of them, W)."""
    if height <= 0 or width <= 0:
        raise ImageError(f"image of {width} x {height} pixels")
    if height * width > LARGEST:
        raise ImageError(f"image of {width} x {height} pixels: more than {LARGEST}")
    depth = np.dtype(encoding.kind)
    used = width * encoding.channels * depth.itemsize
    if step < used:
        raise ImageError(f"image rows of {step} bytes, {width} pixels of {name} need {used}")
    if (name in _PAIRED and width % 2) or (encoding.planes == 0.5 and (width % 2 or height % 2)):
        raise ImageError(f"{name} image of odd size {width} x {height}")
    # the planes of chroma follow, with the rows as long or twice as long
    rows = height + round(encoding.planes * height)
    needed = rows * step if encoding.planes else (rows - 1) * step + used
    if len(data) < needed:
        raise ImageError(f"image of {len(data)} bytes, {rows} rows of {step} need {needed}")
    spaced = np.lib.stride_tricks.as_strided(data, (rows, used), (step, 1), writeable=False)
    # a copy: messages are not written to, nor kept
    pixels = np.array(spaced, order="C").view(depth)
    if depth.itemsize > 1 and big_endian != (sys.byteorder == "big"):
        pixels = pixels.byteswap()
    if encoding.channels == 1:
        return pixels
    return pixels.reshape(height, width, encoding.channels)


def _nv24(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Full-size chroma after luma, video range of ITU-R BT.601, as OpenCV takes nv12."""
    luma = planes[:height].astype(np.float32)
    chroma = planes[height:].reshape(height, width, 2).astype(np.float32) - 128
    u, v = chroma[..., 0], chroma[..., 1]
    light = 1.164 * np.maximum(luma - 16, 0)
    colours = (light + 1.596 * v, light - 0.813 * v - 0.391 * u, light + 2.018 * u)
    return np.clip(np.rint(np.stack(colours, -1)), 0, 255).astype(np.uint8)
