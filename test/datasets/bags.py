"""Recordings of a few messages, whole, damaged, and by ROS 1."""

from __future__ import annotations

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

STORE = get_typestore(Stores.ROS2_KILTED)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS1.register(
    get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage")
)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TF, POSE = (
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
    "geometry_msgs/msg/PoseStamped",
)
WIDTH, HEIGHT = 64, 48


def kind(name, store=STORE):
    return store.types[name]


def header(stamp, frame="camera", store=STORE):
    nanoseconds = round(stamp * 1e9)
    time = kind("builtin_interfaces/msg/Time")(nanoseconds // 10**9, nanoseconds % 10**9)
    if store is ROS1:
        return kind("std_msgs/msg/Header", store)(seq=0, stamp=time, frame_id=frame)
    return kind("std_msgs/msg/Header")(stamp=time, frame_id=frame)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def image(stamp, pixels=None, store=STORE, encoding="rgb8", frame="camera"):
    pixels = picture() if pixels is None else pixels
    return kind(IMAGE, store)(
        header=header(stamp, frame, store),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def compressed(stamp, data, form="jpeg"):
    return kind(COMPRESSED)(
        header=header(stamp), format=form, data=np.frombuffer(bytes(data), np.uint8)
    )


def info(stamp, focal=60.0, width=WIDTH, height=HEIGHT, model="plumb_bob", d=(), store=STORE):
    matrices = {
        "d": np.array(d, np.float64),
        "k": np.array([focal, 0, width / 2 - 0.5, 0, focal, height / 2 - 0.5, 0, 0, 1]),
        "r": np.eye(3).ravel(),
        "p": np.array([50.0, 0, 31.5, 0, 0, 50, 23.5, 0, 0, 0, 1, 0]),
    }
    if store is ROS1:
        matrices = {name.upper(): values for name, values in matrices.items()}
    return kind(INFO, store)(
        header=header(stamp, store=store),
        height=height,
        width=width,
        distortion_model=model,
        binning_x=0,
        binning_y=0,
        roi=kind("sensor_msgs/msg/RegionOfInterest", store)(0, 0, 0, 0, False),
        **matrices,
    )


def transforms(*entries, store=STORE):
    """Entries: parent, child, stamp, x, and w of the quaternion."""
    made = []
    for parent, child, stamp, x, w in entries:
        shift = kind("geometry_msgs/msg/Vector3", store)(float(x), 0.0, 0.0)
        turn = kind("geometry_msgs/msg/Quaternion", store)(0.0, 0.0, 0.0, float(w))
        moved = kind("geometry_msgs/msg/Transform", store)(shift, turn)
        stamped = kind("geometry_msgs/msg/TransformStamped", store)
        made.append(stamped(header(stamp, parent, store), child, moved))
    return kind(TF, store)(made)


def pose(stamp, x, frame="map", w=1.0):
    place = kind("geometry_msgs/msg/Point")(float(x), 0.0, 0.0)
    turn = kind("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, float(w))
    return kind(POSE)(header(stamp, frame), kind("geometry_msgs/msg/Pose")(place, turn))


def write(path, entries, storage=StoragePlugin.MCAP, **connection):
    """Entries: topic, seconds, message."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        made = {}
        for topic, stamp, message in entries:
            key = (topic, message.__msgtype__)
            if key not in made:
                made[key] = writer.add_connection(*key, typestore=STORE, **connection)
            raw = STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(made[key], round(stamp * 1e9), raw)
    return path


def write_ros1(path, entries):
    with Writer1(path) as writer:
        made = {}
        for topic, stamp, message in entries:
            key = (topic, message.__msgtype__)
            if key not in made:
                made[key] = writer.add_connection(*key, typestore=ROS1)
            raw = ROS1.serialize_ros1(message, message.__msgtype__)
            writer.write(made[key], round(stamp * 1e9), raw)
    return path
