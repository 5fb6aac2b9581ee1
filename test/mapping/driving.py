"""What the tests of building maps from a drive have in common."""

from __future__ import annotations

from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap


def worst(map_file, sequence, network, every=7, map_from_room=None):
    """Largest error of the drive's images in a map, in metres."""
    errors = []
    with PixMap(map_file) as pixmap:
        localizer = Localizer(pixmap, network)
        for frame in sequence.frames[3::every]:
            result = localizer.localize(read_image(sequence.images / frame.name), frame.camera)
            assert result.ok, result.reason
            truth = frame.truth
            if map_from_room is not None:
                truth = truth @ map_from_room.inverse()
            errors.append(float(result.cam_from_map.distance(truth)[0]))
    return max(errors)
