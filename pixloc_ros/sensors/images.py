"""Images out of messages and files: RGB, or depth in metres.

Pixels stay as they are stored: an orientation in EXIF turns nothing, at no door, because
intrinsics belong to the stored pixels (COLMAP's do, too).
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.sensors.errors import ImageError
from pixloc_ros.sensors.raw_images import (
    decode_raw,
    decode_raw_depth,
    from_mosaic,
    metres,
    to_bytes,
)

ImageMessage = Any
"""A sensor_msgs/Image or CompressedImage, of rclpy or of rosbags, of ROS 1 or 2."""

# as they are stored, but for an alpha channel and palettes
_STORED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_COLOURS = ("rgb", "bgr")
# a marker of a JPEG with a segment, or its end: neither stuffing nor a restart
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_END = 0xD9
_ORIENTATION = 0x112
# of image_transport's compressedDepth: format and two quantization parameters
_DEPTH_HEADER = struct.Struct("<iff")
_INVERSE_DEPTH = 0

# what is wrong is said by the errors here, with a name
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def image_of(message: ImageMessage) -> np.ndarray:
    """The image of a message as RGB uint8 (H, W, 3). Raises ImageError with the reason."""
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        return decode_compressed(data, message.format)
    return decode_raw(
        data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
    )


def depth_of(message: ImageMessage) -> np.ndarray:
    """The depth of a message as metres (H, W) float32, zero for none. Raises ImageError."""
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        return decode_compressed_depth(data, message.format)
    return decode_raw_depth(
        data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
    )


def decode_compressed(data: np.ndarray, form: str = "") -> np.ndarray:
    """RGB uint8 (H, W, 3) of a file's or a message's bytes (n,).

    form: a message's `format`. What image_transport wrote in it is what counts: a mosaic
    (`bayer_*; jpeg compressed`) is compressed as one channel, and colours that are not
    `compressed bgr8` lie in the file in the order of the encoding. Raises ImageError.
    """
    if "compressedDepth" in form:
        raise ImageError(f"compressed image ({form!r}) of depth, not of colours")
    pixels = _unpack(data, form)
    encoding, separator, how = (part.strip() for part in form.lower().partition(";"))
    mosaic = from_mosaic(pixels, encoding)
    if mosaic is not None:
        return to_bytes(mosaic, form)
    if pixels.ndim == 2:
        return to_bytes(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), form)
    swapped = separator and encoding.startswith("rgb") and "compressed bgr" not in how
    if not (swapped and "compressed" in how):
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return to_bytes(pixels, form)


def decode_compressed_depth(data: np.ndarray, form: str = "") -> np.ndarray:
    """Metres (H, W) float32 of a PNG of 16 bits, or of image_transport's compressedDepth.

    The latter has 12 bytes of header, and of 32FC1 the inverse depth, quantized. Raises
    ImageError, for its compression by RVL too.
    """
    if "compressedDepth" not in form:
        pixels = _unpack(data, form)
        if pixels.ndim != 2 or pixels.dtype not in (np.uint16, np.float32):
            what = f" ({form!r})" if form else ""
            raise ImageError(f"image{what} is not a depth image (16 bits, one channel)")
        return metres(pixels)
    if "rvl" in form.lower():
        raise ImageError(f"compressed depth ({form!r}): RVL is not supported, PNG is")
    if len(data) <= _DEPTH_HEADER.size:
        raise ImageError(f"compressed depth ({form!r}) of {len(data)} bytes")
    kind, first, second = _DEPTH_HEADER.unpack(data[: _DEPTH_HEADER.size].tobytes())
    pixels = _unpack(data[_DEPTH_HEADER.size :], form)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"compressed depth ({form!r}) of {pixels.dtype} {pixels.shape}")
    if not form.strip().lower().startswith("32fc1"):
        return metres(pixels.astype(np.uint16))
    if kind != _INVERSE_DEPTH or not np.isfinite([first, second]).all() or first <= 0:
        raise ImageError(f"compressed depth ({form!r}): quantization {kind}, {first}, {second}")
    # depth_image_transport: stored = a / depth + b
    away = pixels.astype(np.float32) - np.float32(second)
    usable = (pixels > 0) & (away > 0)
    return np.where(usable, np.float32(first) / np.where(usable, away, 1), 0).astype(np.float32)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as RGB uint8 (H, W, 3). Raises ImageError."""
    return _named(path, decode_compressed)


def read_depth(path: str | os.PathLike[str], unit: float) -> np.ndarray:
    """Read a depth image of 16 bits as metres (H, W) float32, zero for none; unit: metres.

    Raises ImageError.
    """
    return _named(path, decode_compressed_depth) * np.float32(1000 * unit)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file, by its header where that is enough. Raises ImageError."""
    try:
        with Image.open(path) as image:
            if image.format != "TIFF":  # of which Pillow tells the size when turned
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    height, width = read_image(path).shape[:2]
    return width, height


def require_size(camera: Camera, width: int, height: int, where: str = "image") -> None:
    """Raise CameraError unless an image is of its camera's size."""
    expected = tuple(camera.size.tolist())
    if (width, height) != expected:
        raise CameraError(
            f"{where}: {width} x {height} pixels, its camera has {expected[0]:g} x {expected[1]:g}"
        )


def _named(path: str | os.PathLike[str], decode: Any) -> np.ndarray:
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: no such image")
        return decode(np.fromfile(path, np.uint8))
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    except ImageError as error:
        text = str(error)
        raise ImageError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _unpack(data: np.ndarray, form: str) -> np.ndarray:
    """(H, W) or (H, W, 3), as OpenCV orders colours, in the depth that is stored."""
    pixels = None
    if len(data) and not _cut(data):
        try:
            pixels = cv2.imdecode(_upright(data), _STORED)
        except cv2.error:
            pixels = None
    if pixels is None:
        kind = f"a readable compressed image ({form!r}, " if form else "a readable image ("
        raise ImageError(f"not {kind}{len(data)} bytes)")
    return pixels


def _cut(data: np.ndarray) -> bool:
    """Whether the end of a JPEG is missing, which some decoders fill with gray.

    Segments are walked, as a preview in the header has an end of its own, and the film behind a
    motion photograph may hold anything.
    """
    if len(data) < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return False
    packed, at = data.tobytes(), 2
    while True:
        found = _MARKER.search(packed, at)
        if found is None:
            return True
        kind = packed[found.end() - 1]
        if kind == _END:
            return False
        at = found.end()
        if at + 2 > len(packed):
            return True
        # after the header of a scan its data follow, in which no marker but its end is
        at += int.from_bytes(packed[at : at + 2], "big")


def _upright(data: np.ndarray) -> np.ndarray:
    """A TIFF whose orientation is set to none, as OpenCV turns these whatever it is asked."""
    packed = data[:4].tobytes()
    if packed not in (b"II*\0", b"MM\0*"):
        return data
    order: Literal["little", "big"] = "little" if packed[0] == 0x49 else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size].tobytes(), order)

    first = number(4, 4)
    for entry in range(first + 2, first + 2 + 12 * number(first, 2), 12):
        if number(entry, 2) == _ORIENTATION:
            data = data.copy()
            data[entry + 8 : entry + 10] = np.frombuffer((1).to_bytes(2, order), np.uint8)
            break
    return data
