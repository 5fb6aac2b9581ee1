"""The file of parameters says what the node declares."""

from __future__ import annotations

import re

import yaml

from pixloc_ros.files import installed
from pixloc_ros.ros.parameters import described

OF_NAMES = ("localizer", "tracker")
"""Empty by default, which a file cannot say of a list; their lines are comments."""


def test_the_file_lists_every_parameter_with_its_default():
    text = installed("config/localize.yaml").read_text()
    said = yaml.safe_load(text)["/**"]["ros__parameters"]
    shown = set(re.findall(r"^    # (\w+): \[", text, re.MULTILINE))
    declared = {name: default for name, default, *_ in described()}
    assert set(said) | shown == set(declared)
    assert shown == set(OF_NAMES)
    for name, value in said.items():
        default = declared[name]
        known = list(default) or [""] if isinstance(default, tuple) else default
        assert value == known, name
