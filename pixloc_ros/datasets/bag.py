"""A sequence as a rosbag2 recording: what a robot's camera and odometry would have published."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.datasets.sequence import Sequence
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Lens, Pose
from pixloc_ros.geometry.distortion import COEFFICIENTS
from pixloc_ros.sensors import read_image

IMAGE, CAMERA_INFO, ODOMETRY = "/image", "/camera_info", "/odom"
GROUND_TRUTH, STATIC_TRANSFORMS = "/ground_truth", "/tf_static"
BASE, CAMERA, ODOM, MAP = "base_link", "camera_optical_frame", "odom", "map"

_STORE = get_typestore(Stores.ROS2_KILTED)


def _type(name: str) -> type:
    return _STORE.types[name]


def _header(stamp: float, frame: str) -> object:
    nanoseconds = round(stamp * 1e9)
    time = _type("builtin_interfaces/msg/Time")(
        sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9
    )
    return _type("std_msgs/msg/Header")(stamp=time, frame_id=frame)


def _pose(pose: Pose) -> object:
    w, x, y, z = pose.quaternion().tolist()
    return _type("geometry_msgs/msg/Pose")(
        position=_type("geometry_msgs/msg/Point")(*pose.translation.tolist()),
        orientation=_type("geometry_msgs/msg/Quaternion")(x, y, z, w),
    )


def _image(stamp: float, image: np.ndarray) -> object:
    gray = bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
    data = np.ascontiguousarray(image[..., 0] if gray else image)
    return _type("sensor_msgs/msg/Image")(
        header=_header(stamp, CAMERA),
        height=image.shape[0],
        width=image.shape[1],
        encoding="mono8" if gray else "rgb8",
        is_bigendian=0,
        step=image.shape[1] * (1 if gray else 3),
        data=data.reshape(-1),
    )


def _distortion(camera: Camera) -> tuple[str, list[float]]:
    """Model and coefficients as ROS has them. Raises InputError for a lens that it lacks."""
    named = dict(zip(COEFFICIENTS, camera.distortion.tolist(), strict=True))
    for model, lens, names in (
        ("plumb_bob", Lens.PERSPECTIVE, COEFFICIENTS[:5]),
        ("rational_polynomial", Lens.PERSPECTIVE, COEFFICIENTS[:8]),
        ("rational_polynomial", Lens.PERSPECTIVE, COEFFICIENTS[:12]),
        ("equidistant", Lens.EQUIDISTANT, ("k1", "k2", "k3", "n4")),
    ):
        if camera.lens is lens and not any(v for k, v in named.items() if k not in names):
            return model, [named[name] for name in names]
    raise InputError("camera_info has no distortion model for this camera")


def _camera_info(stamp: float, camera: Camera) -> object:
    fx, fy = camera.focal.tolist()
    cx, cy = (camera.centre - 0.5).tolist()  # ROS counts from the centre of the first pixel
    width, height = (int(v) for v in camera.size.tolist())
    model, d = _distortion(camera)
    return _type("sensor_msgs/msg/CameraInfo")(
        header=_header(stamp, CAMERA),
        height=height,
        width=width,
        distortion_model=model,
        d=np.array(d),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
        r=np.eye(3).flatten(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=_type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False),
    )


def _odometry(stamp: float, odom_from_base: Pose) -> object:
    zero = _type("geometry_msgs/msg/Vector3")(0.0, 0.0, 0.0)
    twist = _type("geometry_msgs/msg/Twist")(linear=zero, angular=zero)
    covariance = np.zeros(36)
    return _type("nav_msgs/msg/Odometry")(
        header=_header(stamp, ODOM),
        child_frame_id=BASE,
        pose=_type("geometry_msgs/msg/PoseWithCovariance")(_pose(odom_from_base), covariance),
        twist=_type("geometry_msgs/msg/TwistWithCovariance")(twist, covariance),
    )


def _static(stamp: float, base_from_cam: Pose) -> object:
    w, x, y, z = base_from_cam.quaternion().tolist()
    transform = _type("geometry_msgs/msg/Transform")(
        translation=_type("geometry_msgs/msg/Vector3")(*base_from_cam.translation.tolist()),
        rotation=_type("geometry_msgs/msg/Quaternion")(x, y, z, w),
    )
    stamped = _type("geometry_msgs/msg/TransformStamped")(_header(stamp, BASE), CAMERA, transform)
    return _type("tf2_msgs/msg/TFMessage")([stamped])


def write_bag(sequence: Sequence, path: Path, base_from_cam: Pose) -> None:
    """Write a sequence as a rosbag2 folder (MCAP), replacing one that is there.

    Topics: image, camera_info, odom (when the sequence has odometry), tf_static with the
    camera's mount, and ground_truth (map_from_base; for judging only).
    """
    if not sequence.frames:
        raise InputError(f"{sequence.root}: a sequence without frames")
    cam_from_base = base_from_cam.inverse()
    begin = sequence.frames[0].stamp
    messages: list[tuple[float, str, str, object]] = [
        (begin, STATIC_TRANSFORMS, "tf2_msgs/msg/TFMessage", _static(begin, base_from_cam))
    ]
    for stamp, odom_from_cam in sequence.odometry.items():
        # from the trajectory of the camera to that of the base
        pose = base_from_cam @ odom_from_cam @ cam_from_base
        messages.append((stamp, ODOMETRY, "nav_msgs/msg/Odometry", _odometry(stamp, pose)))
    for frame in sequence.frames:
        info = _camera_info(frame.stamp, frame.camera)
        messages.append((frame.stamp, CAMERA_INFO, "sensor_msgs/msg/CameraInfo", info))
        messages.append((frame.stamp, IMAGE, "sensor_msgs/msg/Image", frame.name))
        if frame.truth is not None:
            pose = _type("geometry_msgs/msg/PoseStamped")(
                _header(frame.stamp, MAP), _pose((base_from_cam @ frame.truth).inverse())
            )
            messages.append((frame.stamp, GROUND_TRUTH, "geometry_msgs/msg/PoseStamped", pose))
    partial = path.with_name(path.name + ".partial")
    for folder in (path, partial):
        shutil.rmtree(folder, ignore_errors=True)
    with Writer(partial, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=_STORE)
            for topic, kind in {topic: kind for _, topic, kind, _ in messages}.items()
        }
        for stamp, topic, kind, message in sorted(messages, key=lambda m: m[0]):
            if isinstance(message, str):  # images are read one at a time
                message = _image(stamp, read_image(sequence.images / message))
            writer.write(
                connections[topic], round(stamp * 1e9), _STORE.serialize_cdr(message, kind)
            )
    partial.rename(path)


def read_ground_truth(path: Path) -> dict[float, Pose]:
    """map_from_base by stamp, as `write_bag` recorded it."""
    poses = {}
    with BagReader(path) as reader:
        for _, _, message in reader.messages([GROUND_TRUTH]):
            p, q = message.pose.position, message.pose.orientation
            stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
            poses[stamp] = Pose.from_quaternion((q.w, q.x, q.y, q.z), (p.x, p.y, p.z))
    return poses
