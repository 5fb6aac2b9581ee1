"""Starts the localization node.

ros2 launch pixloc_ros localize.launch.py map:=/path/to/place.pixmap.h5
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription


def generate_launch_description():
    """Arguments, the profile for large images, and the node."""
    config = os.path.join(get_package_share_directory("pixloc_ros"), "config")
    profile = os.path.join(config, "fastdds.xml")

    def given(name, kind):
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    return LaunchDescription(
        [
            DeclareLaunchArgument("map", description="map file (.pixmap.h5), or a folder"),
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(config, "localize.yaml"),
                description="parameters of the node",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of node and topics"),
            DeclareLaunchArgument("use_sim_time", default_value="false"),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                description="false leaves configuring and activating to a lifecycle manager",
            ),
            DeclareLaunchArgument(
                "use_respawn", default_value="false", description="start again after a crash"
            ),
            DeclareLaunchArgument("device", default_value="auto", description="auto, cpu or cuda"),
            DeclareLaunchArgument("log_level", default_value="info"),
            # raw images do not fit Fast DDS's default shared memory; a profile already set wins
            SetEnvironmentVariable(
                "FASTDDS_DEFAULT_PROFILES_FILE",
                EnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", default_value=profile),
            ),
            Node(
                package="pixloc_ros",
                executable="localization_node",
                name="pixloc",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                respawn=LaunchConfiguration("use_respawn"),
                respawn_delay=2.0,
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "map": given("map", str),
                        "device": given("device", str),
                        "autostart": given("autostart", bool),
                        "use_sim_time": given("use_sim_time", bool),
                    },
                ],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            ),
        ]
    )
