"""The version is the same wherever it is written."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pixloc_ros

ROOT = Path(__file__).parents[1]


def test_every_place_says_the_same():
    def found(file, pattern):
        return re.search(pattern, (ROOT / file).read_text(), re.MULTILINE).group(1)

    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == pixloc_ros.__version__
    assert found("setup.py", r'version="([^"]+)"') == pixloc_ros.__version__
    assert found("CITATION.cff", r"^version: (\S+)$") == pixloc_ros.__version__
