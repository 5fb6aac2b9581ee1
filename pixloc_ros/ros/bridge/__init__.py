"""What a ROS distribution has and the PyPI wheels of rclpy lack, behind one interface.

The distribution's own package is used wherever it can be imported: cv_bridge for images,
tf2_ros for transforms, tf_transformations for quaternions, sensor_msgs_py for point clouds.
The stand-ins cover what this package needs of them and no more.
"""

from tf2_msgs.msg import TFMessage

from pixloc_ros.ros.bridge.images import image_to_rgb
from pixloc_ros.ros.bridge.point_clouds import point_cloud
from pixloc_ros.ros.bridge.rotations import pose_of, quaternion_xyzw
from pixloc_ros.ros.bridge.transforms import TransformBroadcaster, TransformBuffer, TransformStore
from pixloc_ros.sensors.transform_tree import TransformError

__all__ = [
    "TFMessage",
    "TransformBroadcaster",
    "TransformBuffer",
    "TransformError",
    "TransformStore",
    "image_to_rgb",
    "point_cloud",
    "pose_of",
    "quaternion_xyzw",
]
