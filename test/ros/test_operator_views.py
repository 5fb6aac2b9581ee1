"""What RViz and Foxglove are set up to show is what the node publishes."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from pixloc_ros.files import installed


@pytest.fixture
def offered(start_harness):
    """Topics and services of a running node."""
    harness = start_harness()
    node = harness.robot
    harness.wait(
        lambda: any(name == "/pixloc/status" for name, _ in node.get_topic_names_and_types())
    )
    topics = {name: types[0] for name, types in node.get_topic_names_and_types()}
    services = {name for name, _ in node.get_service_names_and_types()}
    return topics, services


def strings(content):
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings(value)
    elif isinstance(content, str):
        yield content


def test_rviz(offered):
    topics, _ = offered
    text = installed("config/pixloc.rviz").read_text()
    assert yaml.safe_load(text)["Visualization Manager"]["Global Options"]["Fixed Frame"] == "map"
    # without a slash: they follow the namespace that RViz is started in
    named = set(re.findall(r"Value: ([a-z_]+(?:/\S+)?)\n", text)) & {
        name.removeprefix("/") for name in topics
    }
    assert named == {
        *("pixloc/map_points", "pixloc/references", "pose", "pixloc/debug_image"),
        "initialpose",
    }
    assert not re.findall(r"Value: /", text)


def test_foxglove(offered):
    topics, services = offered
    layout = json.loads(installed("config/foxglove.json").read_text())
    panels = layout["configById"]
    placed = set(strings(layout["layout"])) - {"direction", "splitPercentage", "first", "second"}
    assert placed - {"row", "column"} == set(panels)
    named = {word.split(".")[0] for word in strings(panels) if re.fullmatch(r"/\S+", word)}
    named -= {"/goal_pose", "/clicked_point"}  # what its tools may publish otherwise
    assert named <= set(topics) | services
    assert {"/pose", "/diagnostics", "/pixloc/debug_image", "/pixloc/relocalize"} <= named
