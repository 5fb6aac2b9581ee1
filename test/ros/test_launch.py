"""The launch files, by the real launch where it is installed (it is not on PyPI)."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from pixloc_ros.files import installed

pytest.importorskip("launch_ros", reason="launch_ros is neither installed nor on PyPI")

from launch.actions import DeclareLaunchArgument, OpaqueFunction

from launch import LaunchContext


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A launch file's module, where the package seems to be installed."""
    share = tmp_path / "share" / "pixloc_ros"
    for folder in ("launch", "config"):
        source = installed("launch/localize.launch.py").parents[1] / folder
        shutil.copytree(source, share / folder)
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "pixloc_ros").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))

    def module(name):
        spec = importlib.util.spec_from_file_location("launched", share / "launch" / name)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found

    return module


def started(module, **given):
    """The node's parameters and remappings, with what is given on the command line."""
    description = module.generate_launch_description()
    context = LaunchContext()
    context.launch_configurations.update({k: str(v) for k, v in given.items()})
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    (function,) = [e for e in description.entities if isinstance(e, OpaqueFunction)]
    (node,) = function.execute(context)
    return node


def overrides(node):
    """What overrides the file: the second entry."""
    parameters = node._Node__parameters
    return {"".join(part.text for part in key): value for key, value in parameters[1].items()}


def test_only_what_is_given_overrides_the_file(load):
    module = load("localize.launch.py")
    assert overrides(started(module)) == {}
    node = started(module, map="/a.h5", autostart="false", device="cuda")
    assert set(overrides(node)) == {"map", "autostart", "device"}
    with pytest.raises(ValueError, match="autostart:=maybe: true or false"):
        started(module, autostart="maybe")


def test_topics_are_remapped_where_they_are_named(load):
    module = load("localize.launch.py")
    assert not started(module)._Node__remappings
    node = started(module, image="/front/image_raw", pose="amcl_pose", tf="tf")
    remapped = {
        "".join(p.text for p in a): "".join(p.text for p in b) for a, b in node._Node__remappings
    }
    assert remapped == {
        "image": "/front/image_raw", "pose": "amcl_pose", "/tf": "tf", "/tf_static": "tf_static",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        ("jazzy", ["FASTRTPS_DEFAULT_PROFILES_FILE"]),
        ("kilted", ["FASTDDS_DEFAULT_PROFILES_FILE"]),
        ("", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"]),
    ],
)
def test_the_profile_has_the_name_that_the_distribution_reads(
    load, monkeypatch, distribution, names
):
    monkeypatch.setenv("ROS_DISTRO", distribution)
    assert list(load("localize.launch.py")._profile_variables()) == names


@pytest.mark.parametrize("name", ["replay.launch.py", "nav2.launch.py"])
def test_the_others_pass_on_arguments_that_there_are(load, name):
    known = {
        entity.name
        for entity in load("localize.launch.py").generate_launch_description().entities
        if isinstance(entity, DeclareLaunchArgument)
    }
    module = load(name)
    assert set(getattr(module, "PASSED", None) or module.TOPICS) <= known
    assert module.generate_launch_description().entities
