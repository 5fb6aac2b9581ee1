"""Claims that are true by construction are found true, others are mended."""

from __future__ import annotations

import json
import re
import shutil

import h5py
import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.uncertainty import Claims, claims_of_report, fit, leave_one_out
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap


def claims(factors=(1.0, 1.0), count=4000, seed=0):
    """Errors drawn from covariances; claimed are these, with standard deviations off."""
    random = np.random.default_rng(seed)
    mix = 3 * np.eye(6) + random.normal(size=(count, 6, 6))
    mix = mix * np.array([0.1] * 3 + [0.02] * 3)[:, None]
    covariances = mix @ mix.transpose(0, 2, 1)
    errors = (mix @ random.normal(size=(count, 6, 1)))[..., 0]
    off = np.repeat(factors, 3)
    return Claims(errors, covariances / np.outer(off, off))


def test_true_claims_are_found_true():
    told = claims()
    assert told.nees().mean() == pytest.approx(6.0, rel=0.05)
    assert np.allclose(told.coverage(), (0.5, 0.9, 0.95), atol=0.02)


def test_fitting_mends_claims():
    factors = fit(claims((3.0, 0.2)))
    assert factors == pytest.approx((3.0, 0.2), rel=0.03)
    assert claims((3.0, 0.2)).scaled(*factors).nees().mean() == pytest.approx(6.0, rel=0.03)


def test_some_that_are_far_off_make_all_of_them_less_sure():
    told = claims(count=200)
    far = told.errors.copy()
    far[:20] *= 4
    factors = fit(Claims(far, told.covariances))
    assert Claims(far, told.covariances).scaled(*factors).coverage()[-1] >= 0.94


def test_a_few_answers_calibrate_nothing():
    with pytest.raises(InputError, match="too few answers to calibrate with: 9, 10 are needed"):
        fit(claims(count=9))


def test_the_error_is_that_of_the_covariance():
    """Drawn as `Pose.perturb` applies it."""
    truth = Pose.exp(torch.tensor([1.0, -2.0, 0.5, 0.3, -0.2, 0.9], dtype=torch.float64))
    delta = torch.tensor([0.1, -0.2, 0.05, 0.02, 0.01, -0.03], dtype=torch.float64)
    told = Claims.of([(truth.perturb(delta), torch.eye(6).double(), truth)])
    assert np.allclose(told.errors[0], delta.numpy())


def test_a_report_without_covariances_says_so():
    pose = Pose.identity(dtype=torch.float64)
    with pytest.raises(InputError, match="no answer in the report"):
        claims_of_report({"a": {"status": "rejected"}}, {"a": pose}, {"a": pose})


def test_left_out_references_are_not_used(room, network):
    seen = []
    with PixMap(room.map_file) as pixmap:
        localizer = Localizer(pixmap, network)
        answers = leave_one_out(
            localizer, lambda n: read_image(room.sequence.images / n), 1, 5, lambda: seen.append(1)
        )
        names = sorted(pixmap.model.names)
    assert len(answers) == len(seen) == 4
    for (result, _), place in zip(answers, range(0, 16, 5), strict=True):
        out = set(names[max(place - 1, 0) : place + 2])
        assert result.references
        assert not out & set(result.references)


def test_calibrate_makes_a_map_claim_the_truth(room, tmp_path, capsys):
    path = shutil.copy(room.map_file, tmp_path / "copy.pixmap.h5")
    arguments = ["calibrate", "--map", str(path), "--images", str(room.sequence.images)]
    assert main([*arguments, "--gap", "0"]) == 0
    told = capsys.readouterr().out
    with PixMap(path) as pixmap:
        pixmap.verify()
        factors = pixmap.calibration
    assert factors is not None
    assert f"{factors[0]:.3g} (translation) and {factors[1]:.3g} (rotation)" in told
    # again, from what the map claims now: the same
    assert main([*arguments, "--gap", "0"]) == 0
    before, after = (
        float(mean) for mean in re.findall(r"NEES: mean ([\d.]+)", capsys.readouterr().out)
    )
    assert before == pytest.approx(after, rel=0.02)
    with PixMap(path) as pixmap:
        assert pixmap.calibration == factors


def test_a_map_of_an_older_version_must_be_built_again(room, tmp_path, capsys):
    path = shutil.copy(room.map_file, tmp_path / "copy.pixmap.h5")
    with h5py.File(path, "r+") as file:
        del file["observations/patch"]
    arguments = ["calibrate", "--map", str(path), "--images", str(room.sequence.images)]
    assert main(arguments) == 1
    assert "without patches; build it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "{map}", "--gap", "-1"], "--gap is at least 0"),
        (["--map", "/nowhere.h5"], "/nowhere.h5"),
        (["--map", "{map}", "--every", "5"], "too few answers"),
    ],
)
def test_calibrate_says_what_is_wrong(room, capsys, arguments, message):
    given = [a.format(map=room.map_file) for a in arguments]
    assert main(["calibrate", *given, "--images", str(room.sequence.images)]) == 1
    assert message in capsys.readouterr().err
    with PixMap(room.map_file) as pixmap:
        assert pixmap.calibration is None


def test_evaluate_judges_covariances(tmp_path, capsys):
    truth, results, report = [], [], {}
    told = claims(count=300)
    for i, (error, covariance) in enumerate(zip(told.errors, told.covariances, strict=True)):
        name = f"q/{i}.jpg"
        pose = Pose.exp(torch.tensor([1.0, 0, 0, 0, 0.01 * i, 0], dtype=torch.float64))
        for lines, p in ((truth, pose), (results, pose.perturb(torch.from_numpy(error)))):
            numbers = [*p.quaternion().tolist(), *p.translation.tolist()]
            lines.append(f"{name} {' '.join(map(repr, numbers))}\n")
        report[name] = {"covariance": covariance.tolist()}
    for name, text in (
        ("truth.txt", "".join(truth)),
        ("results.txt", "".join(results)),
        ("report.json", json.dumps(report)),
        ("broken.json", "[1]"),
    ):
        (tmp_path / name).write_text(text)
    arguments = ["evaluate", "--ground-truth", str(tmp_path / "truth.txt")]
    arguments += ["--results", str(tmp_path / "results.txt"), "--json", str(tmp_path / "out.json")]
    assert main([*arguments, "--nees", str(tmp_path / "report.json")]) == 0
    assert "inside the ellipsoids" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out.json").read_text())["nees"]
    assert numbers["answers"] == 300
    assert numbers["mean"] == pytest.approx(6.0, rel=0.15)
    assert main([*arguments, "--nees", str(tmp_path / "broken.json")]) == 1
    assert "not what localize --report writes" in capsys.readouterr().err
