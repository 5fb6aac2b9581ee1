"""From the files of a benchmark to its table, on miniature copies."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from dataclasses import replace
from functools import partial

import miniature
import numpy as np
import pycolmap
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import read_poses
from pixloc_ros.datasets.benchmarks import LAYOUTS, Roots, parts_of, write_missing_queries
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.benchmark import map_of, poses_of
from pixloc_ros.evaluation.benchmark_options import BenchmarkOptions, options_of, weights_of
from pixloc_ros.evaluation.benchmark_tasks import tasks_of
from pixloc_ros.features import open_network
from pixloc_ros.mapping import PixMap, read_colmap
from pixloc_ros.mapping.sparse_model import subset, write_colmap
from pixloc_ros.options import override
from pixloc_ros.retrieval import Covisibility
from pixloc_ros.worker_pool import Lost, spread


@pytest.fixture(scope="module")
def minis(room, tmp_path_factory):
    """Miniatures by name, made when asked for, with the folder of their results."""
    made = {}

    def get(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name.replace(".", "_"))
            made[name] = miniature.make(name, room, root), root / "results"
        return made[name]

    return get


def run(mini, results, *more):
    chosen = {"CMU": "--slices", "RobotCar": "--conditions"}.get(mini.name, "--scenes")
    part = [chosen, mini.part] if mini.part else []
    return main([str(a) for a in [*mini.arguments(results), *part, *more]])


def result_file(mini, results):
    return results / LAYOUTS[mini.name].results.format(part=mini.part)


def errors(mini, results):
    poses, count = read_poses(result_file(mini, results)), LAYOUTS[mini.name].name_parts
    for name, truth in mini.truth.items():
        short = "/".join(name.split("/")[-count:]) if count else name
        metres, radians = poses[short].distance(truth)
        yield float(metres), float(torch.rad2deg(radians))


@pytest.mark.parametrize(
    "name", ["7Scenes", "Cambridge", "Aachen", "Aachen-v1.1", "CMU", "RobotCar", "own"]
)
def test_from_nothing_to_the_table(minis, name, capsys):
    mini, results = minis(name)
    assert run(mini, results) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 believed" in printed
    for metres, degrees in errors(mini, results):
        assert metres < 0.02
        assert degrees < 0.3
    if name in ("7Scenes", "Cambridge", "own"):
        title = mini.part or name
        row = next(line for line in printed.splitlines() if line.split()[:1] == [title])
        assert row.split()[1:3] == ["3", "0"]
        assert row.split()[-1] == "100.0"
    else:
        assert "the evaluation server has it" in printed
    report = json.loads(result_file(mini, results).with_suffix(".json").read_text())
    assert set(report["queries"]) == set(mini.truth)
    kept = report["manifest"]
    assert kept["weights_hash"] == open_network(None).weights_hash()
    assert kept["options"]["localizer"]["references"] == 10
    assert kept["seconds"] > 0
    assert not list(results.glob("*.partial.jsonl"))


def test_an_interrupted_run_goes_on(minis, monkeypatch, capsys):
    mini, results = minis("7Scenes")
    other = results / "again"
    from pixloc_ros.evaluation import benchmark

    work, seen = benchmark._Answering.__call__, []

    def stopping(self, task):
        seen.append(task.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return work(self, task)

    monkeypatch.setattr(benchmark._Answering, "__call__", stopping)
    maps = ["--maps", results / "maps"]
    assert run(mini, other, *maps) == 130
    assert not result_file(mini, other).exists()
    partial = next(other.glob("*.partial.jsonl"))
    partial.write_text(partial.read_text() + '["half a li')
    assert run(mini, other, *maps) == 0
    assert seen.count(seen[0]) == 1
    assert sorted(set(seen)) == sorted(mini.truth)
    whole = read_poses(result_file(mini, other))
    assert len(whole) == 3
    # of another kind, it is not gone on with
    monkeypatch.setattr(benchmark._Answering, "__call__", work)
    partial.write_text('{"another": "run"}\n["seq-03/x", {"pose": null}]\n')
    assert run(mini, other, *maps) == 0
    assert len(read_poses(result_file(mini, other))) == 3


def test_workers_give_the_same_results(minis):
    mini, results = minis("7Scenes")
    other = results / "pool"
    run(mini, results)
    assert run(mini, other, "--num_workers", 2, "--maps", results / "maps") == 0
    assert result_file(mini, results).read_bytes() == result_file(mini, other).read_bytes()


def test_starts_and_settings_of_the_seed_project(minis, tmp_path, capsys):
    mini, results = minis("7Scenes")
    maps = ["--maps", results / "maps"]
    settings = ["refinement.num_dbs=5", "optimizer.num_iters=30"]
    assert run(mini, tmp_path / "r", *maps, "start=retrieval", *settings) == 0
    report = json.loads(result_file(mini, tmp_path / "r").with_suffix(".json").read_text())
    assert all(len(q["references"]) <= 5 for q in report["queries"].values())
    assert "100.0" in capsys.readouterr().out
    assert run(mini, tmp_path / "a", *maps, "refinement.do_pose_approximation=true") == 0
    priors = tmp_path / "priors.txt"
    name, pose = next(iter(mini.truth.items()))
    numbers = [*pose.quaternion().tolist(), *pose.translation.tolist()]
    priors.write_text(" ".join([name, *map(str, numbers)]) + "\n")
    assert run(mini, tmp_path / "p", *maps, "start=priors", "--priors", priors) == 0
    assert run(mini, tmp_path / "s", *maps, "--skip", "2") == 0
    assert len(read_poses(result_file(mini, tmp_path / "s"))) == 2
    capsys.readouterr()
    assert run(mini, tmp_path / "s", "--eval_only") == 0
    assert " 3  " in capsys.readouterr().out


def test_as_published(minis, tmp_path, capsys):
    """The default network goes through the procedure of the original, without a map."""
    mini, _ = minis("Cambridge")
    settings = ["procedure=published", "experiment=shipped", "features.preprocessing.resize=640"]
    maps = ["--maps", tmp_path / "maps"]
    assert run(mini, tmp_path / "r", *maps, *settings) == 0
    assert "3 of 3 aligned" in capsys.readouterr().out
    for metres, degrees in errors(mini, tmp_path / "r"):
        assert metres < 0.02
        assert degrees < 0.3
    assert not (tmp_path / "maps").exists()
    kept = json.loads(result_file(mini, tmp_path / "r").with_suffix(".json").read_text())
    assert kept["manifest"]["options"]["refinement"]["average_observations"] is True
    assert kept["manifest"]["options"]["refinement"]["multiscale"] == [4, 1]
    assert all(len(q["references"]) == 5 for q in kept["queries"].values())
    # a query that fails is written with its start
    more = ["refinement.min_points_opt=100000", *settings]
    assert run(mini, tmp_path / "f", *maps, *more) == 0
    assert "0 of 3 aligned" in capsys.readouterr().out
    model = read_colmap(mini.outputs / mini.part / "sfm_superpoint+superglue")
    first = {line.split()[0]: line.split()[1] for line in reversed(pairs_of(mini))}
    written = read_poses(result_file(mini, tmp_path / "f"))
    for name, reference in first.items():
        start = model.pose(model.names.index(reference))
        assert torch.allclose(written[name].matrix(), start.matrix(), atol=1e-6)


def pairs_of(mini):
    file = mini.outputs / mini.part / "pairs-query-netvlad10.txt"
    return file.read_text().splitlines()


def test_references_apart_from_the_others_are_left_out(minis, monkeypatch):
    mini, results = minis("Cambridge")
    layout = LAYOUTS["Cambridge"]
    part = parts_of(layout, Roots(mini.data, mini.outputs, results), [mini.part])[0]
    model = read_colmap(part.sfm)

    def tasks(*settings):
        options = options_of(LAYOUTS["Cambridge"], ["procedure=published", *settings])
        return tasks_of(part, options, model, 1, None)

    everything = tasks()[0].references
    assert len(everything) == 5
    # all see one room: pretend that the first sees another
    monkeypatch.setattr(Covisibility, "largest_cluster", lambda self, seen: list(seen)[1:])
    assert tasks()[0].references == everything
    for setting in ("filter_covisibility=true", "do_pose_approximation=true"):
        assert tasks(f"refinement.{setting}")[0].references == everything[1:]
    start = tasks("refinement.filter_covisibility=true")[0].prior
    assert torch.allclose(start.matrix(), model.pose(model.names.index(everything[1])).matrix())


def test_what_was_published_for_each_benchmark():
    ran = [layout for layout in LAYOUTS.values() if layout.published]
    assert {"7Scenes", "Cambridge", "Aachen", "CMU", "RobotCar"} <= {each.name for each in ran}
    for layout in ran:
        assert options_of(layout, ["procedure=published"]).experiment.startswith("pixloc_")
        found = options_of(layout, ["procedure=published", "start=poses"])
        assert found.refinement.layer_indices == [0, 1]
        assert found.refinement.point_selection == "inliers"
    aachen = options_of(LAYOUTS["Aachen-v1.1"], ["procedure=published"])
    assert (aachen.start, aachen.optimizer.num_iters) == ("approximation", 150)
    assert options_of(LAYOUTS["Aachen"], ["procedure=published", "start=priors"]).start == "priors"
    plain = options_of(LAYOUTS["CMU"], ["procedure=published"])
    more = options_of(LAYOUTS["CMU"], ["procedure=published", "refinement.num_dbs=7"])
    assert more.refinement == replace(plain.refinement, num_dbs=7)


def test_several_image_scales_make_another_map(minis, tmp_path):
    mini, results = minis("7Scenes")
    run(mini, results)
    before = len(list((results / "maps").glob("*.pixmap.h5")))
    scales = ["refinement.multiscale=[2,1]", "--maps", results / "maps"]
    assert run(mini, tmp_path, *scales) == 0
    assert len(list((results / "maps").glob("*.pixmap.h5"))) == before + 1
    levels = BenchmarkOptions().levels(open_network(None))
    options = override(BenchmarkOptions(), ["refinement.multiscale=[2,1]"])
    assert options.levels(open_network(None)) != levels


def test_slices_are_joined_to_submit(minis, capsys):
    mini, results = minis("CMU")
    assert run(mini, results, "--num_workers", "0") == 0
    out = capsys.readouterr().out
    assert f"to submit to visuallocalization.net: {results / 'pixloc_CMU_slice3.txt'}" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["refinement.average_observations=true"], "a setting of procedure=published"),
        (["optimizer.pad=1"], "optimizer.pad: a setting of procedure=published"),
        (["procedure=faithful"], "one of robust, published"),
        (["procedure=published", "start=matches"], "does not match"),
        (["procedure=published", "localizer.points=100"], "settings of procedure=robust"),
        (["procedure=published"], "pixloc_megadepth/checkpoint_best.tar"),
        (["refinement.point_selection=some"], "one of all, inliers"),
        (["--scenes", "attic"], "has no scenes 'attic'"),
        (["--slices", "2-3"], "--slices: 7Scenes has scenes"),
        (["refinement.num_db=3"], "the nearest is 'refinement.num_dbs'"),
        (["start=guess"], "one of matches, retrieval"),
        (["start=priors"], "start=priors needs --priors"),
        (["experiment=pixloc_megadepth"], "checkpoint_best.tar"),
        (["refinement.multiscale=[0]"], "divisors from 1 to 64"),
        (["--skip", "0"], "--skip is at least 1"),
    ],
)
def test_mistakes_get_one_line(tmp_path, capsys, more, message):
    arguments = ["benchmark", "7Scenes", "--dataset", tmp_path, "--dumps", tmp_path]
    code = main([str(a) for a in [*arguments, "--eval_dir", tmp_path / "r", *more]])
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_what_is_not_there_is_named(minis, tmp_path, capsys):
    mini, _ = minis("7Scenes")
    arguments = ["benchmark", "7Scenes", "--dataset", mini.data, "--dumps", mini.outputs]
    assert main([str(a) for a in [*arguments, "--scenes", "chess", "--eval_dir", tmp_path]]) == 1
    assert "chess/sfm_superpoint+superglue+depth" in capsys.readouterr().err
    assert main([str(a) for a in [*arguments, "--eval_only", "--eval_dir", tmp_path]]) == 1
    assert "no results to judge" in capsys.readouterr().err


def test_lists_that_cmu_and_robotcar_come_without(tmp_path):
    roots = Roots(tmp_path / "d", tmp_path / "o", tmp_path / "r")
    (tmp_path / "d" / "slice7").mkdir(parents=True)
    (tmp_path / "d" / "intrinsics.txt").write_text(
        "c0 OPENCV 1024 768 868 866 525 420 -.4 .4 0 0\n"
    )
    test_images = tmp_path / "d" / "slice7" / "test-images-slice7.txt"
    test_images.write_text("img_00119_c1_1us.jpg\n")
    part = parts_of(LAYOUTS["CMU"], roots, ["2"])[0]
    part = type(part)(**{**part.__dict__, "name": "7"})
    with pytest.raises(InputError, match="names none of the cameras"):
        write_missing_queries(LAYOUTS["CMU"], part, tmp_path / "d")
    car = parts_of(LAYOUTS["RobotCar"], roots, ["night-rain"])[0]
    with pytest.raises(InputError, match="left_intrinsics"):
        write_missing_queries(LAYOUTS["RobotCar"], car, tmp_path / "d")


def test_experiments_by_name_and_by_file(tmp_path):
    file = tmp_path / "pixloc_cmu" / "checkpoint_best.tar"
    file.parent.mkdir()
    file.touch()
    assert weights_of("pixloc_cmu", tmp_path) == str(file)
    assert weights_of(str(file), tmp_path) == str(file)
    assert weights_of("shipped", tmp_path) is None


def doubled():
    return lambda task: 2 * task


def deadly(marker):
    """Dies over 3 always, over 5 the first time."""

    def work(task):
        if task == 3 or (task == 5 and not os.path.exists(marker)):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return task + 100

    return work


def refusing():
    raise InputError("no map here")


def test_tasks_are_spread(monkeypatch, tmp_path):
    assert list(spread(doubled, [1, 2, 3], 0)) == [(0, 2), (1, 4), (2, 6)]
    assert dict(spread(doubled, list(range(7)), 2)) == {i: 2 * i for i in range(7)}
    assert list(spread(doubled, [], 2)) == []


def test_a_worker_that_dies_is_replaced(tmp_path):
    answers = dict(spread(partial(deadly, str(tmp_path / "died")), list(range(8)), 2))
    assert isinstance(answers.pop(3), Lost)
    assert answers == {i: i + 100 for i in range(8) if i != 3}


def test_a_worker_that_cannot_begin_says_why():
    with pytest.raises(InputError, match="no map here"):
        list(spread(refusing, [1, 2], 2))


def test_from_what_hloc_logged(minis, tmp_path, capsys):
    mini, results = minis("7Scenes")
    model = pycolmap.Reconstruction(mini.outputs / mini.part / "sfm_superpoint+superglue+depth")
    numbers = sorted(model.images)
    loc = {}
    for name, pose in mini.truth.items():
        loc[name] = {
            "db": numbers,
            "PnP_ret": {
                "success": True,
                "qvec": pose.quaternion().numpy(),
                "tvec": pose.translation.numpy(),
                "inliers": [True],
            },
            # one inlier, seen by the last reference
            "keypoint_index_to_db": ([0], [(1, [len(numbers) - 1])]),
        }
    logs = tmp_path / "logs.pkl"
    logs.write_bytes(pickle.dumps({"loc": loc}))
    more = ["--hloc_logs", logs, "--maps", results / "maps"]
    assert run(mini, tmp_path / "r", "--from_poses", *more) == 0
    for metres, _ in errors(mini, tmp_path / "r"):
        assert metres < 0.02
    report = json.loads(result_file(mini, tmp_path / "r").with_suffix(".json").read_text())
    assert all("match" not in q["timings_ms"] for q in report["queries"].values())
    ranked = ["--inlier_ranking", "refinement.num_dbs=1"]
    assert run(mini, tmp_path / "i", *ranked, *more) == 0
    capsys.readouterr()
    assert run(mini, tmp_path / "n", "--from_poses", "--maps", results / "maps") == 1
    assert "--hloc-logs FILE" in capsys.readouterr().err


def test_a_model_that_is_made_anew_has_a_map_of_its_own(room, tmp_path):
    """Under the same path: what is kept is what it was made from."""
    whole = read_colmap(room.root / "sparse")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(room.root / "images")
    roots = Roots(tmp_path / "data", tmp_path / "outputs", tmp_path / "results")
    (part,) = parts_of(LAYOUTS["own"], roots, [])
    files = []
    for count in (3, 4, 4):
        shutil.rmtree(roots.outputs, ignore_errors=True)
        roots.outputs.mkdir()
        kept = np.arange(len(whole.names)) < count
        model = subset(whole, kept, np.ones(len(whole.points), bool))
        write_colmap(model, roots.outputs / "sfm")
        files.append(map_of(part, tmp_path / "maps", None, options_of(LAYOUTS["own"], []), "cpu"))
        with PixMap(files[-1]) as pixmap:
            assert len(pixmap.names) == count
    assert len(set(files)) == 3  # the files' times are another's, too


def test_two_queries_of_one_name_to_the_server_are_refused():
    entry = {"pose": [1, 0, 0, 0, 0, 0, 0]}
    with pytest.raises(InputError, match=r"b/1.jpg: another query is 1.jpg"):
        poses_of({"a/1.jpg": entry, "b/1.jpg": entry}, 1)
    assert set(poses_of({"a/1.jpg": entry, "b/1.jpg": entry}, 2)) == {"a/1.jpg", "b/1.jpg"}
