"""A map's references against each other."""

from __future__ import annotations

from pixloc_ros.cli.main import main
from pixloc_ros.evaluation.map_quality import MapQuality, map_quality


def test_the_room_is_found_from_all_around(room, localizer):
    quality = map_quality(localizer, room.root / "images")
    assert quality.tried == len(localizer.map)
    assert quality.found == quality.tried - len(quality.weak)
    assert quality.found > 0.8 * quality.tried
    assert quality.wrong == 0
    assert quality.median_m < 0.02
    assert quality.usable


def test_places_that_nothing_else_shows_are_weak(room, localizer, monkeypatch):
    real = type(localizer).leaving_out

    def only_itself(self, references):
        """As if the references from number 4 on were alone in the world."""
        return real(self, range(len(self.map)) if min(references) >= 4 else references)

    monkeypatch.setattr(type(localizer), "leaving_out", only_itself)
    quality = map_quality(localizer, room.root / "images")
    assert len(quality.weak) >= len(localizer.map) - 4
    assert not quality.usable
    text = quality.as_text()
    assert "weak at" in text
    assert f"and {len(quality.weak) - 10} more" in text


def test_the_command_says_it(room, capsys):
    assert main(["validate_map", str(room.map_file), "--images", str(room.root / "images")]) == 0
    assert "are found by the others" in capsys.readouterr().out
    assert main(["validate_map", str(room.map_file), "--images", "/nowhere"]) == 1
    assert "no such image" in capsys.readouterr().err


def test_half_of_them_is_the_least():
    def of(found):
        return MapQuality(10, found, 0, 0.0, 0.0, ())

    assert of(5).usable
    assert not of(4).usable
    assert of(10).as_text().startswith("10 of 10 references (100%)")
