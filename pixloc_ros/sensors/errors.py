"""What is wrong with what a sensor sent."""

from __future__ import annotations

from pixloc_ros.errors import InputError


class ImageError(InputError):
    """An image that cannot be used, with the reason in one line."""
