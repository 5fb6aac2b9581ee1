"""A camera driver and the localization node in one process container's launch file.

ros2 launch examples/with_camera.launch.py map:=/path/to/place.pixmap.h5
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description():
    localize = PathJoinSubstitution(
        [FindPackageShare("pixloc_ros"), "launch", "localize.launch.py"]
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("map", description="map file (.pixmap.h5)"),
            Node(
                package="usb_cam",
                executable="usb_cam_node_exe",
                remappings=[("image_raw", "camera/image"), ("camera_info", "camera/camera_info")],
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(localize),
                launch_arguments={
                    "map": LaunchConfiguration("map"),
                    "image": "camera/image",
                    "camera_info": "camera/camera_info",
                    "odom": "odometry/filtered",
                }.items(),
            ),
        ]
    )
