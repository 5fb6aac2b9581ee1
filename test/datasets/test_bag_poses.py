"""Where a recorded camera was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.datasets.bag import write_bag
from pixloc_ros.datasets.bag_poses import BagPoses
from pixloc_ros.datasets.rendered_room import mount
from pixloc_ros.errors import InputError

STORE = get_typestore(Stores.ROS2_KILTED)
T = STORE.types


def header(stamp, frame):
    time = T["builtin_interfaces/msg/Time"](sec=int(stamp), nanosec=round(stamp % 1 * 1e9))
    return T["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def transform(stamp, parent, child, x=0.0, yaw=0.0):
    return T["geometry_msgs/msg/TransformStamped"](
        header(stamp, parent),
        child,
        T["geometry_msgs/msg/Transform"](
            translation=T["geometry_msgs/msg/Vector3"](float(x), 0.0, 0.0),
            rotation=T["geometry_msgs/msg/Quaternion"](0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)),
        ),
    )


def bag(path, messages):
    """messages: (topic, kind, message)."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        known = {}
        for number, (topic, kind, message) in enumerate(messages):
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(known[topic], number, STORE.serialize_cdr(message, kind))
    return path


def tf(topic, *transforms):
    kind = "tf2_msgs/msg/TFMessage"
    return topic, kind, T[kind](list(transforms))


def test_of_a_drive_from_its_topic(room, tmp_path):
    write_bag(room.sequence, tmp_path / "bag", mount())
    poses = BagPoses(tmp_path / "bag", "/ground_truth")
    for frame in room.sequence.frames[::3]:
        found = poses.pose("map", "camera_optical_frame", frame.stamp).inverse()
        assert torch.allclose(found.matrix(), frame.truth.matrix(), atol=1e-6)
    assert poses.pose("map", "camera_optical_frame", 1.0) is None


def test_through_tf_between_its_stamps(tmp_path):
    path = bag(
        tmp_path / "bag",
        [
            tf("/tf_static", transform(0, "base_link", "camera", 0.5)),
            tf("/tf", transform(1, "map", "odom", 10.0), transform(1, "odom", "base_link", 0.0)),
            tf("/tf", transform(3, "map", "odom", 10.0), transform(3, "odom", "base_link", 2.0)),
        ],
    )
    poses = BagPoses(path)
    assert poses.roots("camera") == ["camera", "base_link", "odom", "map"]
    assert poses.pose("map", "camera", 2.0).translation.tolist() == pytest.approx([11.5, 0, 0])
    assert poses.pose("odom", "base_link", 1.5).translation.tolist() == pytest.approx([0.5, 0, 0])
    assert poses.pose("map", "camera", 3.5) is None
    with pytest.raises(InputError, match="camera hangs on base_link < odom < map, not on earth"):
        poses.pose("earth", "camera", 2.0)


def test_mistakes(tmp_path):
    good = tf("/tf", transform(1, "map", "base_link"))
    path = bag(tmp_path / "a", [good])
    with pytest.raises(InputError, match="no poses on /pose; topics of poses: none"):
        BagPoses(path, "/pose")
    two = bag(tmp_path / "b", [good, tf("/tf", transform(2, "odom", "base_link"))])
    with pytest.raises(InputError, match="base_link hangs on map and on odom"):
        BagPoses(two).pose("odom", "base_link", 2.0)
    bad = bag(tmp_path / "c", [tf("/tf", transform(1, "map", "base_link", np.nan))])
    assert BagPoses(bad).left_out.reasons == {"without finite numbers or rotation": 1}
    with pytest.raises(InputError, match="no such recording"):
        BagPoses(tmp_path / "none")
