"""Image messages, through cv_bridge where there is one."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from pixloc_ros.ros.bridge.distribution import package
from pixloc_ros.sensors import image_of

cv_bridge = package("cv_bridge")

THROUGH_CV_BRIDGE = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Encodings that every cv_bridge decodes to the same pixels, with their channels."""


def image_to_rgb(message: Image | CompressedImage) -> np.ndarray:
    """An image message as RGB uint8 (H, W, 3). Raises ImageError with the reason.

    What cv_bridge refuses, or shears because its rows are padded, is read by the reader of all
    other doors, which gives the same pixels, and says what is wrong.
    """
    if cv_bridge is not None and isinstance(message, Image) and _plain(message):
        try:
            return np.asarray(cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8"))
        except Exception:
            return image_of(message)
    return image_of(message)


def _plain(message: Image) -> bool:
    channels = THROUGH_CV_BRIDGE.get(message.encoding, 0)
    return 0 < message.step == channels * message.width
