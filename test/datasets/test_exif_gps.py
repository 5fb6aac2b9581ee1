"""Where photographs were taken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational as R

from pixloc_ros.datasets.exif_gps import read_gps
from pixloc_ros.errors import InputError


def photograph(path, gps):
    exif = Image.Exif()
    if gps:
        exif[0x8825] = gps
    Image.new("RGB", (64, 48)).save(path, exif=exif)


def place(step, height=None, below=False):
    gps = {1: "N", 2: (R(48), R(8), R(3000 + 10 * step, 100)), 3: "E"}
    gps[4] = (R(11), R(34), R(1000 + 7 * step * step, 100))
    if height is not None:
        gps |= {5: b"\x01" if below else b"\0", 6: R(height)}
    return gps


def read(folder, places, altitude=None):
    said = []
    names = []
    for number, gps in enumerate(places):
        names.append(f"{number}.jpg")
        photograph(folder / names[-1], gps)
    return read_gps(folder, names, altitude, said.append), said


def test_metres_east_north_and_up(tmp_path):
    found, said = read(tmp_path, [place(n, 520 + n) for n in range(4)])
    assert said == []
    assert found["0.jpg"].tolist() == [0, 0, 0]
    east, north, up = np.array([found[f"{n}.jpg"] for n in range(4)]).T
    assert north[1] == pytest.approx(3.09, abs=0.01)
    assert (np.diff(east) > 0).all()
    assert up.tolist() == pytest.approx([0, 1, 2, 3], abs=1e-3)


def test_altitudes_that_are_missing(tmp_path):
    none, said = read(tmp_path, [place(n) for n in range(4)])
    assert "4 images have a GPS position without altitude: 0 m, assumed" in said[0]
    assert np.array(list(none.values()))[:, 2].tolist() == pytest.approx([0] * 4, abs=1e-3)
    given, said = read(tmp_path, [place(n) for n in range(4)], 500.0)
    assert "500 m, as given" in said[0]
    assert np.array(list(given.values()))[:, 2].tolist() == pytest.approx([0] * 4, abs=1e-3)
    some, said = read(tmp_path, [place(0, 100), place(1), place(2, 110), place(3, 120)])
    assert "1 images have a GPS position without altitude: 110 m, the others' median" in said[0]
    assert some["1.jpg"][2] == pytest.approx(10, abs=1e-3)
    below, _ = read(tmp_path, [place(0, 5, True), place(1, 5), place(2, 5)])
    assert below["1.jpg"][2] == pytest.approx(10, abs=1e-3)


def test_positions_that_are_none(tmp_path):
    good = [place(n, 1) for n in range(3)]
    zero = {1: "N", 2: (R(0), R(0), R(0)), 3: "E", 4: (R(0), R(0), R(0))}
    far = {1: "N", 2: (R(99), R(0), R(0)), 3: "E", 4: (R(0), R(0), R(0))}
    broken = {1: "N", 2: (R(1, 0), R(0), R(0)), 3: "E", 4: (R(0), R(0), R(0))}
    found, said = read(tmp_path, [*good, zero, far, broken, None])
    assert sorted(found) == ["0.jpg", "1.jpg", "2.jpg"]
    assert "left out 3 positions" in said[0]
    with pytest.raises(InputError, match=r"0 images .* 3 are needed \(2 of zero"):
        read(tmp_path, [zero, zero, None])
