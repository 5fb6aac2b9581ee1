"""Training: exact resume, many processes as one, and nothing lost when it is stopped or fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.features import CheckpointError, load_network
from pixloc_ros.training.batch import PairBatch
from pixloc_ros.training.loading import batches
from pixloc_ros.training.model import AlignmentModel, LossOptions
from pixloc_ros.training.options import OptimizerOptions, TrainingOptions
from pixloc_ros.training.trainer import (
    BEST,
    LAST,
    LOG,
    Processes,
    Trainer,
    TrainingError,
    learning_rate,
)
from pixloc_ros.training.validation import validate

ROOT = Path(__file__).parents[2]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]


def trainer(fresh, source, options, folder, architecture="compact", **more):
    held_out = source(options, options.validation.seed)
    return Trainer(fresh(architecture), source(options), held_out, options, folder, **more)


class Interrupting:
    """A source that stops the run as Ctrl-C does, after some steps."""

    def __init__(self, source, after):
        self.source, self.after = source, after
        self.prepare, self.samples, self.device = source.prepare, source.samples, source.device

    def finish(self, step, samples, prepared):
        if step == self.after:
            os.kill(os.getpid(), signal.SIGINT)
        return self.source.finish(step, samples, prepared)


def test_an_interrupted_run_goes_on_exactly(fresh, source, options, tmp_path):
    whole = trainer(fresh, source, options, tmp_path / "whole")
    assert whole.run()
    part = trainer(fresh, source, options, tmp_path / "part")
    part.source = Interrupting(part.source, after=2)
    assert not part.run()
    assert part.step == 3
    again = trainer(fresh, source, options, tmp_path / "part")
    again.resume()
    assert again.step == 3
    assert again.run()
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    for mine, other in zip(
        again.network.state_dict().values(), whole.network.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)


def test_checkpoints_load_as_weights(fresh, source, options, tmp_path):
    run = trainer(fresh, source, replace(options, steps=3), tmp_path)
    before = run.network.weights_hash()
    assert run.run()
    assert run.network.weights_hash() != before
    for name in (LAST, BEST):
        assert load_network(tmp_path / name).architecture == "compact"
    assert load_network(tmp_path / LAST).weights_hash() == run.network.weights_hash()
    assert not list(tmp_path.glob("*.partial"))
    assert list(tmp_path.glob("events.*"))


def test_resume_refuses_what_it_cannot_continue(fresh, source, options, tmp_path):
    run = trainer(fresh, source, replace(options, steps=2), tmp_path)
    run.run()
    other = trainer(
        fresh, source, replace(options, steps=2, optimizer=OptimizerOptions(1e-3)), tmp_path
    )
    with pytest.raises(TrainingError, match=r"another optimizer\.rate"):
        other.resume()
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"truncated|damaged"):
        run.resume()
    torch.save({"architecture": "compact", "model": {}}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="weights alone"):
        run.resume()
    (tmp_path / LAST).unlink()
    with pytest.raises(CheckpointError, match="no such"):
        run.resume()


class Poisoned:
    """A source whose images are not finite in some steps."""

    def __init__(self, source, steps):
        self.source, self.steps = source, steps
        self.prepare, self.samples, self.device = source.prepare, source.samples, source.device

    def finish(self, step, samples, prepared):
        batch = self.source.finish(step, samples, prepared)
        if step in self.steps:
            return PairBatch(**{**vars(batch), "images": batch.images * float("nan")})
        return batch


def test_a_step_without_finite_loss_changes_nothing(fresh, source, options, tmp_path):
    said = []
    run = trainer(fresh, source, replace(options, steps=3), tmp_path, say=said.append)
    run.source = Poisoned(run.source, {1})
    assert run.run()
    assert any("step 2: loss nan" in line and "left out" in line for line in said)
    assert all(torch.isfinite(v).all() for v in run.network.state_dict().values())


def test_training_gives_up_and_keeps_the_last_good_checkpoint(fresh, source, options, tmp_path):
    run = trainer(fresh, source, replace(options, steps=30), tmp_path, say=lambda _: None)
    run.source = Poisoned(run.source, range(2, 30))
    with pytest.raises(TrainingError, match="no finite loss for 10 steps"):
        run.run()
    kept = load_network(tmp_path / LAST)
    assert all(torch.isfinite(v).all() for v in kept.state_dict().values())


def test_the_schedule_warms_up_and_ends_at_zero():
    options = TrainingOptions(steps=100, optimizer=OptimizerOptions(warm_up=10))
    rates = [learning_rate(n, options) for n in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_processes_share_samples_evenly():
    assert [list(Processes(r, 2).share(4)) for r in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match="cannot be shared by 3"):
        Processes(0, 3).share(4)


def test_scenes_that_cannot_be_compared_in_groups_are_refused(fresh, source, options, tmp_path):
    options.synthetic = replace(options.synthetic, scenes=3)
    options.loss = replace(options.loss, group=2, retrieval=0.3)
    with pytest.raises(InputError, match=r"loss\.group: 2 scenes.* a process has 3"):
        trainer(fresh, source, options, tmp_path)


def test_worker_processes_change_nothing(source, options):
    pairs = source(options)
    alone, helped = (list(batches(pairs, range(2), range(2), workers)) for workers in (0, 1))
    for mine, other in zip(alone, helped, strict=True):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.start.translation, other.start.translation)


def test_two_processes_train_as_one(tmp_path):
    """torchrun with two processes and gloo: the losses of one process with the whole batch."""
    config = tmp_path / "train.yaml"
    config.write_text(
        "steps: 3\n"
        "synthetic: {scenes: 4, views: 3, pairs: 1, points: 64, sizes: [[96, 64]]}\n"
        "loss: {iterations: 2, group: 2, retrieval: 0.3}\n"
        "validation: {every: 3, batches: 1}\nlog_every: 1\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    train = ["-m", "pixloc_ros", "train", "--config", str(config), "--device", "cpu", "--output"]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
    ]
    for name, start in (("one", [sys.executable]), ("two", torchrun)):
        command = [*start, *train, str(tmp_path / name)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    one, two = (load_network(tmp_path / name / LAST).state_dict() for name in ("one", "two"))
    for key, value in one.items():
        assert torch.allclose(two[key], value, atol=2e-4), key


@pytest.mark.parametrize("architecture", ["compact", "gnnet"])
def test_learning_makes_the_held_out_loss_fall(fresh, source, options, tmp_path, architecture):
    """A few steps on small scenes make features that other scenes are matched better with."""
    gauss_newton = 0.3 if architecture == "gnnet" else 0.0
    loss = LossOptions(0.0, 2, 1.0, 0.07, gauss_newton, 0.3, 0.07, 1)
    options = replace(
        options, steps=12, loss=loss, optimizer=OptimizerOptions(rate=1e-3, warm_up=2)
    )
    run = trainer(fresh, source, options, tmp_path, architecture)
    held_out = list(batches(run.held_out, range(2), range(3)))
    before = validate(run.model, held_out)
    assert run.run()
    after = validate(run.model, held_out)
    assert after.loss < before.loss


def test_validation_measures_alignment(fresh, source, options):
    model = AlignmentModel(fresh(), options.loss)
    batch = next(iter(batches(source(options), range(2), range(1))))
    at_truth = PairBatch(**{**vars(batch), "start": batch.truth})
    result = validate(model, [at_truth])
    assert result.start == 1.0
    assert result.pairs == int(batch.valid.sum())
    assert "held-out pairs" in str(result)
    nothing = PairBatch(**{**vars(batch), "valid": torch.zeros_like(batch.valid)})
    assert validate(model, [nothing]).pairs == 0


def test_the_smoke_configuration_learns(tmp_path, capsys):
    """What CI runs of training: the command on its smallest configuration; its loss falls."""
    config = str(ROOT / "config" / "train" / "smoke.yaml")
    output = tmp_path / "run"
    shorter = ["steps=8", "validation.every=4", "save_every=4"]
    command = ["train", "--config", config, "--device", "cpu", "--output", str(output)]
    assert main([*command, *shorter]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "held-out" in line]
    assert len(told) == 2
    curve = losses(output)
    assert len(curve) == 8
    assert sum(curve[-3:]) < sum(curve[:3])
    assert main(["train", "--config", config, "--output", str(output)]) == 1
    assert "give --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("stepz: 3\n", [], "the nearest is 'steps'"),
        ("steps: many\n", [], "steps"),
        ("- 3\n", [], "mapping of keys"),
        ("steps: [\n", [], "not YAML"),
        ("source: nowhere\n", [], "known: synthetic, pairs"),
        ("source: pairs\n", [], "a scene file each is needed"),
        ("network: other\n", [], "unknown architecture"),
        ("weights: none.pt\n", [], "no such weights file"),
        ("synthetic: {photographs: nowhere}\n", [], "no photographs"),
        ("loss: {contrast: -1}\n", [], "not negative"),
        ("steps: 1\n", ["--resume"], "no checkpoint to resume"),
    ],
)
def test_bad_configurations_are_one_clear_line(tmp_path, capsys, text, arguments, message):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    output = tmp_path / "out"
    command = ["train", "--config", str(config), "--output", str(output), *arguments]
    assert main([*command, "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not output.exists()
