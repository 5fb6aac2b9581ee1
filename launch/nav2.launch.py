"""The localization of Nav2 with this node in AMCL's place: map_server, pixloc, their manager.

ros2 launch pixloc_ros nav2.launch.py map:=place.pixmap.h5 grid:=place.yaml image:=/image_raw

Start Nav2's navigation_launch.py beside it, and not its localization_launch.py.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

PASSED = ("map", "params_file", "image", "camera_info", "odom", "image_transport", "odometry")


def generate_launch_description():
    """A lifecycle manager of its own: no bond is kept with a node in Python."""
    share = get_package_share_directory("pixloc_ros")
    namespace = LaunchConfiguration("namespace")
    sim = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    # as Nav2 does, so that robots in namespaces have trees of their own
    tree = [("/tf", "tf"), ("/tf_static", "tf_static")]
    params = os.path.join(share, "config", "localize.yaml")
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=params if name == "params_file" else "",
                    description=f"as localize.launch.py's {name}",
                )
                for name in PASSED
            ),
            DeclareLaunchArgument("grid", description="occupancy grid (.yaml) for map_server"),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("use_sim_time", default_value="false"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(share, "launch/localize.launch.py")),
                launch_arguments={
                    **{name: LaunchConfiguration(name) for name in PASSED},
                    "namespace": namespace,
                    "use_sim_time": LaunchConfiguration("use_sim_time"),
                    "autostart": "false",
                    "pose": "amcl_pose",
                    "tf": "tf",
                }.items(),
            ),
            Node(
                package="nav2_map_server",
                executable="map_server",
                name="map_server",
                namespace=namespace,
                output="screen",
                parameters=[{"yaml_filename": LaunchConfiguration("grid"), "use_sim_time": sim}],
                remappings=tree,
            ),
            Node(
                package="nav2_lifecycle_manager",
                executable="lifecycle_manager",
                name="lifecycle_manager_localization",
                namespace=namespace,
                output="screen",
                parameters=[
                    {
                        "autostart": True,
                        "node_names": ["map_server", "pixloc"],
                        "bond_timeout": 0.0,
                        "use_sim_time": sim,
                    }
                ],
            ),
        ]
    )
