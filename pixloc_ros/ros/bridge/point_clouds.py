"""Point clouds, through sensor_msgs_py where there is one."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from pixloc_ros.ros.bridge.distribution import package

point_cloud2 = package("sensor_msgs_py.point_cloud2")


def point_cloud(header: Header, points: np.ndarray) -> PointCloud2:
    """A cloud of (N, 3) float32 points."""
    points = np.ascontiguousarray(points, np.float32)
    if point_cloud2 is not None:
        return point_cloud2.create_cloud_xyz32(header, points)
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate("xyz")
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=points.tobytes(),
        is_dense=True,
    )
