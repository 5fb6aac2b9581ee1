from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout

import cv2
import h5py
import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import COMMANDS, main
from pixloc_ros.cli.options import Parser
from pixloc_ros.datasets import read_poses, write_text
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation import PoseErrors
from pixloc_ros.features import default_levels, read_image
from pixloc_ros.features.checkpoint import DEFAULT_WEIGHTS, save_network
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override, select_device


def fails(capsys, arguments, *messages, code=1):
    """The command fails with this code, one line on stderr, and no traceback."""
    assert main([str(a) for a in arguments]) == code
    lines = [
        line
        for line in capsys.readouterr().err.replace("\r", "\n").splitlines()
        if line and "it/s]" not in line and "?" not in line[-12:] and "00:0" not in line
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for message in messages:
        assert message in lines[0]


@pytest.fixture
def localize(room, tmp_path):
    def arguments(**changes):
        given = {
            "map": room.map_file,
            "images": room.sequence.images,
            "queries": room.root / "queries_with_intrinsics.txt",
            "output": tmp_path / "poses.txt",
        } | changes
        return ["localize", *(x for k, v in given.items() for x in (f"--{k}", v))]

    return arguments


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    try:
        code = main([command, "--help"])
    except SystemExit as end:
        code = end.code
    assert code == 0
    assert f"python -m pixloc_ros {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pixloc_ros build_m", ["build_map"]),
        ("pixloc_ros localize --glo", ["--global-features"]),
        ("pixloc_ros localize --pairs pai", ["pairs.txt"]),
        ("pixloc_ros localize --device c", ["cpu", "cuda"]),
        ("pixloc_ros localization_node --glo", []),
    ],
)
def test_bash_completes(completion, tmp_path, typed, offered):
    (tmp_path / "pairs.txt").touch()
    words = typed.split()
    asked = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _shtab_pixloc_ros"
    script = f'source {completion}; {asked}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == offered, done.stderr


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    pytest.importorskip("shtab", reason="completion needs shtab")
    script = tmp_path_factory.mktemp("completion") / "pixloc_ros"
    with script.open("w") as opened, redirect_stdout(opened):
        assert main(["completion", "bash"]) == 0
    return script


def test_completion_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    fails(capsys, ["completion", "zsh"], "pip install 'pixloc_ros[completion]'")


def test_usage(capsys):
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert main([]) == 2
    capsys.readouterr()
    assert main(["fly"]) == 2
    assert "unknown command 'fly'" in capsys.readouterr().err


def test_a_former_name_still_works(capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "--help"])
    told = capsys.readouterr()
    assert end.value.code == 0
    assert "python -m pixloc_ros speed" in told.out
    assert told.err.strip() == "note: bench is now called speed"


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "pixloc_ros", "--help"], capture_output=True)
    assert done.returncode == 0
    assert b"build_map" in done.stdout


def test_map_localize_evaluate(room, localize, tmp_path, capsys):
    """The offline job from a COLMAP model to a table."""
    output, report = tmp_path / "poses.txt", tmp_path / "report.json"
    map_file = tmp_path / "m.pixmap.h5"
    build = ["build_map", "--colmap", room.root / "sparse", "--images", room.sequence.images]
    assert main([str(a) for a in [*build, "--output", map_file]]) == 0
    assert main(["validate_map", str(map_file)]) == 0
    assert "valid" in capsys.readouterr().out
    assert main([str(a) for a in localize(map=map_file, report=report)]) == 0
    poses, told = read_poses(output), json.loads(report.read_text())
    assert len(told) == len(room.sequence.frames)
    assert set(poses) == {name for name, entry in told.items() if entry["status"] == "success"}
    assert len(poses) >= len(told) - 1
    assert np.array(told[next(iter(poses))]["covariance"]).shape == (6, 6)
    truth = room.root / "gt_poses.txt"
    numbers, page = tmp_path / "e.json", tmp_path / "e.html"
    evaluate = ["evaluate", "--ground-truth", truth, "--results", output]
    capsys.readouterr()
    assert main([str(a) for a in [*evaluate, "--json", numbers, "--html", page]]) == 0
    assert "median m" in capsys.readouterr().out
    assert json.loads(numbers.read_text())["all"]["median_m"] < 0.03
    assert page.read_text().startswith("<!doctype html>")


def test_localize_with_priors_pairs_and_overrides(room, localize, tmp_path):
    report = tmp_path / "r.json"
    queries = tmp_path / "two.txt"
    lines = (room.root / "queries_with_intrinsics.txt").read_text().splitlines()[:2]
    queries.write_text("\n".join(lines) + "\n")
    priors = room.root / "gt_poses.txt"
    arguments = localize(report=report, priors=priors, queries=queries)
    assert main([str(a) for a in [*arguments, "references=2"]]) == 0
    for entry in json.loads(report.read_text()).values():
        assert entry["from_prior"]
        assert len(entry["references"]) == 2
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{lines[0].split()[0]} db/0000.jpg\n")
    assert main([str(a) for a in localize(report=report, pairs=pairs, queries=queries)]) == 0
    told = list(json.loads(report.read_text()).values())
    assert told[1]["status"] == "no_reference"  # no pair lists it
    features = tmp_path / "global.h5"
    names = [*(line.split()[0] for line in lines), *(f"db/{i:04d}.jpg" for i in range(16))]
    with h5py.File(features, "w") as file:
        for i, name in enumerate(names):
            vector = np.eye(16, dtype=np.float32)[max(i - 2, 0)]  # queries look like db/0000
            file.create_group(name)["global_descriptor"] = vector
    arguments = localize(report=report, queries=queries, **{"global-features": features})
    assert main([str(a) for a in [*arguments, "references=1"]]) == 0
    told = list(json.loads(report.read_text()).values())
    assert told[0]["status"] == "success"


def test_an_unreadable_query_is_reported_and_the_rest_localized(room, localize, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(room.sequence.images, images)
    (images / "query/0001.jpg").write_bytes(b"not a jpeg")
    (images / "query/0002.jpg").unlink()
    report = tmp_path / "r.json"
    fails(
        capsys, localize(images=images, report=report), "2 queries could not be used", "0001.jpg"
    )
    told = json.loads(report.read_text())
    assert told["query/0001.jpg"]["status"] == "bad_input"
    assert told["query/0000.jpg"]["status"] == "success"
    assert "query/0000.jpg" in read_poses(tmp_path / "poses.txt")


@pytest.mark.parametrize("command", ["validate_map", "localize", "speed"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no such map file"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "truncated"),
        (lambda p: p.write_text("hello"), "no map file"),
        (lambda p: h5py.File(p, "w").close(), "not a map"),
    ],
)
def test_unusable_maps(room, localize, tmp_path, capsys, command, damage, message):
    path = tmp_path / "copy.pixmap.h5"
    shutil.copy(room.map_file, path)
    damage(path)
    arguments = {
        "validate_map": ["validate_map", path],
        "localize": localize(map=path),
        "speed": ["speed", "--map", path, "--image", room.sequence.images / "query/0000.jpg"],
    }[command]
    fails(capsys, arguments, str(path), message)


def test_a_map_of_another_network(localize, tmp_path, capsys):
    weights = tmp_path / "other.tar"
    save_network(CompactNetwork(), weights)
    fails(capsys, localize(weights=weights), "filled by other compact weights", "rebuild the map")


def test_a_model_without_points(tmp_path, capsys):
    sparse = tmp_path / "sparse"
    sparse.mkdir()
    for name in ("cameras", "images", "points3D"):
        (sparse / f"{name}.txt").write_text("# empty\n")
    arguments = ["build_map", "--colmap", sparse, "--images", tmp_path]
    fails(capsys, [*arguments, "--output", tmp_path / "m.pixmap.h5"], str(sparse), "no 3D points")
    assert list(tmp_path.iterdir()) == [sparse]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": "/nowhere.txt"}, "/nowhere.txt: no such file"),
        ({"images": "/nowhere"}, "no such folder of images"),
        ({"output": "/nowhere/poses.txt"}, "no such folder to write"),
        ({"output": ""}, "an empty name"),
        ({"output": "/"}, "a folder"),
        ({"weights": "/nowhere.tar"}, "no such weights file"),
    ],
)
def test_missing_inputs(localize, capsys, changes, message):
    fails(capsys, localize(**changes), message)


def test_outputs_never_overwrite_inputs_or_each_other(room, localize, tmp_path, capsys):
    queries, copy = tmp_path / "q.txt", tmp_path / "m.pixmap.h5"
    shutil.copy(room.root / "queries_with_intrinsics.txt", queries)
    shutil.copy(room.map_file, copy)
    before = queries.read_bytes(), copy.read_bytes()
    fails(capsys, localize(output=queries, queries=queries), "would be lost")
    fails(capsys, localize(output=copy, map=copy), "would be lost")
    twice = tmp_path / "twice.txt"
    fails(capsys, localize(output=twice, report=twice), "would be lost")
    assert (queries.read_bytes(), copy.read_bytes()) == before
    truth = tmp_path / "gt.txt"
    truth.write_text("a 1 0 0 0 0 0 0\n")
    evaluate = ["evaluate", "--ground-truth", truth, "--results", truth, "--json", truth]
    fails(capsys, evaluate, "would be lost")


def test_devices_and_links_are_written_through(tmp_path):
    """Written to a pipe's name, a result goes down the pipe; a link keeps pointing."""
    target, link = tmp_path / "t.txt", tmp_path / "l.txt"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_text(pipe, "through")
    assert reader.communicate()[0] == b"through"
    assert pipe.is_fifo()


def test_pairs_of_another_map(localize, tmp_path, capsys):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("query/0000.jpg elsewhere.jpg\n")
    fails(capsys, localize(pairs=pairs), "names no reference of")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(room, tmp_path, number):
    command = [sys.executable, "-m", "pixloc_ros", "build_map", "--colmap", room.root / "sparse"]
    command += ["--images", room.sequence.images, "--output", tmp_path / "m.pixmap.h5"]
    process = subprocess.Popen(
        [str(a) for a in command],
        stderr=subprocess.PIPE,
        text=True,
        # what runs in the background may have Ctrl-C ignored, and so its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    # but what the next run goes on with
    assert [path.name for path in tmp_path.iterdir()] == ["m.work"]


def test_evaluate_refuses_what_does_not_belong_together(tmp_path, capsys):
    truth, results = tmp_path / "gt.txt", tmp_path / "r.txt"
    truth.write_text("a 1 0 0 0 0 0 0\n")
    results.write_text("b 1 0 0 0 0 0 0\n")
    evaluate = ["evaluate", "--ground-truth", truth, "--results", results]
    fails(capsys, evaluate, "b and all others are not in")
    truth.write_text("")
    fails(capsys, evaluate, "no poses")


def test_overrides_name_the_nearest_key():
    options = override(LocalizerOptions(), ["references=3", "lm.iterations=7", "gate.min_fit=0.4"])
    assert (options.references, options.lm.iterations, options.gate.min_fit) == (3, 7, 0.4)
    assert LocalizerOptions().references != 3
    for entry, message in [
        ("referenecs=3", "nearest is 'references'"),
        ("lm.iteration=3", "nearest is 'lm.iterations'"),
        ("references=many", "setting references"),
        ("references", "expected key=value"),
        ("references=0", "setting references is 0, not in 1 to 1000"),
        ("gate.min_fit=nan", "setting min_fit is nan"),
        ("lm.iterations=0", "setting iterations is 0"),
        ("references=[1", "cannot be read"),
        ("kernel_scale=-1", "setting kernel_scale is -1"),
    ]:
        with pytest.raises(InputError, match=message):
            override(LocalizerOptions(), [entry])


def test_asking_for_a_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto").type == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        select_device("cuda")


def test_bench_prints_every_stage(room, tmp_path, capsys):
    numbers = tmp_path / "b.json"
    image = room.sequence.images / "query/0000.jpg"
    speed = ["speed", "--map", room.map_file, "--image", image, "--json", numbers, "--repeats", 2]
    assert main([str(a) for a in speed]) == 0
    printed, content = capsys.readouterr().out, json.loads(numbers.read_text())
    for stage in ("network", "match", "align", "total"):
        assert stage in printed
    assert content["repeats"] == 2
    stages = {t["stage"]: t["median"] for t in content["without prior"]}
    assert 0 < stages["network"] < stages["total"]
    assert "match" not in {t["stage"] for t in content["with prior"]}
    assert content["host_peak_mib"] > 50


def test_bench_tells_what_the_machine_could_do(room, tmp_path, capsys):
    numbers = tmp_path / "b.json"
    image = room.sequence.images / "query/0000.jpg"
    speed = ["speed", "--map", room.map_file, "--image", image, "--json", numbers, "--repeats", 1]
    assert main([str(a) for a in [*speed, "--roofline", "--curves"]]) == 0
    content = json.loads(numbers.read_text())
    assert {w["work"] for w in content["roofline"]} == {"network", "an iteration at every level"}
    assert all(w["floor_ms"] > 0 and w["operations"] > 1e6 for w in content["roofline"])
    grown = content["curves"]
    assert set(grown) == {"points", "hypotheses", "references", "image width"}
    assert all(ms > 0 for points in grown.values() for _, ms in points)
    assert "GB/s" in capsys.readouterr().out


def test_bench_beside_the_original_needs_its_parts(room, tmp_path, capsys):
    image = room.sequence.images / "query/0000.jpg"
    speed = ["speed", "--map", room.map_file, "--image", image, "--against", tmp_path]
    fails(capsys, speed, "--against needs --images")
    fails(capsys, [*speed, "--images", tmp_path / "no"], "no such folder")
    weights = ["--against-weights", DEFAULT_WEIGHTS]
    fails(
        capsys,
        [*speed, "--images", room.root / "images", *weights],
        "the original cannot run them",
    )
    fails(capsys, [*speed, "--images", room.root / "images"], "not a checkout of the original")


def test_bench_refuses_a_foreign_image(room, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((100, 100, 3), np.uint8))
    speed = ["speed", "--map", room.map_file, "--image", tmp_path / "x.png"]
    fails(capsys, speed, "no camera of the map")
    fails(capsys, ["speed", "--map", room.map_file], "go together")


def test_demo_refuses_a_folder_that_is_no_pack(tmp_path, capsys):
    fails(capsys, ["demo", "--pack", tmp_path / "no", "--output", tmp_path], "no such folder")
    fails(capsys, ["demo", "--pack", tmp_path, "--output", tmp_path / "o"], "no such file")


def test_localize_carries_answers_on_by_odometry(room, tmp_path, capsys):
    """Two queries are searched for, which agree; the others start where odometry says."""
    root, output, report = room.root, tmp_path / "p.txt", tmp_path / "r.json"
    base = ["localize", "--map", room.map_file, "--images", root / "images", "--output", output]
    base += ["--queries", root / "queries_with_intrinsics.txt", "--report", report]
    odometry = ["--odometry", root / "odometry_sim.txt"]
    timed = [*odometry, "--timestamps", root / "timestamps.txt"]
    assert main([str(a) for a in [*base, *timed]]) == 0
    told = json.loads(report.read_text())
    assert [entry["from_prior"] for entry in told.values()] == [False] * 2 + [True] * 8
    decisions = [entry["decision"] for entry in told.values()]
    assert decisions == ["candidate"] + ["fix"] * 9
    truth, found = read_poses(root / "gt_poses.txt"), read_poses(output)
    assert PoseErrors.of(truth, found).metres.max() < 0.03
    fails(capsys, [*base, *odometry], "go together")
    (tmp_path / "t.txt").write_text("query/0000.jpg 1.0\n")
    fails(capsys, [*base, *odometry, "--timestamps", tmp_path / "t.txt"], "no stamp for")


def test_localize_refuses_odometry_and_start_poses_of_something_else(room, tmp_path, capsys):
    root = room.root
    base = ["localize", "--map", room.map_file, "--images", root / "images"]
    base += ["--output", tmp_path / "p.txt", "--queries", root / "queries_with_intrinsics.txt"]
    stamped = ["--timestamps", root / "timestamps.txt", "--odometry", tmp_path / "o.txt"]
    (tmp_path / "o.txt").write_text("1e11 0 0 0 0 0 0 1\n2e11 0 0 0 0 0 0 1\n")
    fails(capsys, [*base, *stamped], "no query is within the odometry (from 1e+11 to 2e+11 s")
    (tmp_path / "o.txt").write_text("# nothing\n")
    fails(capsys, [*base, *stamped], "no query is within the odometry (empty")
    (tmp_path / "s.txt").write_text("other.jpg 1 0 0 0 0 0 0\n")
    fails(capsys, [*base, "--priors", tmp_path / "s.txt"], "no start pose of any query")


@pytest.mark.parametrize("levels", ["640", "640:x", "8:1", "640:3", "640:0,"])
def test_build_map_refuses_levels_that_are_none(room, tmp_path, capsys, levels):
    root = room.root
    build = ["build_map", "--colmap", root / "sparse", "--images", root / "images"]
    fails(capsys, [*build, "--output", tmp_path / "m.pixmap.h5", "--levels", levels], "--levels")


def test_build_map_makes_a_map_for_weak_processors(room, network, tmp_path, capsys):
    """In which the network sees a quarter of the pixels, and a fix is nearly as exact."""
    root, map_file = room.root, tmp_path / "m.pixmap.h5"
    build = ["build_map", "--colmap", root / "sparse", "--images", root / "images"]
    build += ["--output", map_file, "--no-check"]
    assert main([str(a) for a in [*build, "--speed", "fast"]]) == 0
    frame = room.sequence.frames[3]
    with PixMap(map_file) as pixmap:
        assert pixmap.header.levels == default_levels(network, "fast")
        assert {level.image_size for level in pixmap.header.levels} == {320}
        image = read_image(room.sequence.images / frame.name)
        result = Localizer(pixmap, network).localize(image, frame.camera)
    assert result.ok, result.reason
    assert float(result.cam_from_map.distance(frame.truth)[0]) < 0.03
    fails(capsys, [*build, "--speed", "fast", "--levels", "320:0"], "not both")
    fails(capsys, [*build[:1], *build[3:], "--extend", map_file, "--speed", "fast"], "--extend")


def test_build_map_takes_the_levels_it_is_given(room, tmp_path, capsys):
    root, map_file = room.root, tmp_path / "m.pixmap.h5"
    build = ["build_map", "--colmap", root / "sparse", "--images", root / "images"]
    assert main([str(a) for a in [*build, "--output", map_file, "--levels", "320:1,320:0"]]) == 0
    with PixMap(map_file) as pixmap:
        assert [(v.image_size, v.network_level) for v in pixmap.header.levels] == [
            (320, 1),
            (320, 0),
        ]


@pytest.mark.parametrize(("command", "code"), [("localization_node", 0), ("localize", 130)])
def test_ctrl_c_while_libraries_are_imported(command, code):
    """Some of them swallow a KeyboardInterrupt, and the command went on as if nothing was."""
    script = (
        "import time, pixloc_ros.cli.main as main\n"
        "def slow(name):\n"
        "    print('importing', flush=True)\n"
        "    for _ in range(200):\n"
        "        try: time.sleep(0.1)\n"
        "        except KeyboardInterrupt: pass\n"
        "main.import_module = slow\n"
        f"main.guard({command!r}, [])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == code


def test_the_node_is_imported_while_ctrl_c_is_safe():
    """What is imported later ends in a KeyboardInterrupt, which Python turns into a failure."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    script = (
        "import sys, pixloc_ros.cli.main as main\n"
        "main._import('localization_node')\n"
        "sys.exit('pixloc_ros.ros.localization_node' not in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_evaluate_tells_what_got_worse(tmp_path, capsys):
    def poses(name, offsets):
        lines = [f"s/{i}.jpg 1 0 0 0 {offset} 0 0\n" for i, offset in enumerate(offsets)]
        (tmp_path / name).write_text("".join(lines))
        return tmp_path / name

    truth, plot = poses("truth.txt", [0.0] * 4), tmp_path / "c.png"
    now = poses("now.txt", [0.001, 0.04, 0.001])  # the fourth has no answer
    before = poses("before.txt", [0.001, 0.001, 0.04, 0.3])
    evaluate = ["evaluate", "--ground-truth", truth, "--results", now]
    arguments = [*evaluate, "--baseline", before, "--plot", plot]
    assert main([str(a) for a in arguments]) == 0
    out = capsys.readouterr().out
    worse = [line for line in out.splitlines() if line.startswith("worse: ")]
    assert [line.split()[1] for line in worse] == ["s/3.jpg", "s/1.jpg"]
    assert "inf m inf deg, no longer within 0.5m,5deg" in worse[0]
    assert "no longer within 0.01m,1deg" in worse[1]
    changes = next(line for line in out.splitlines() if "!" in line).split()
    assert changes == ["+0.0", "+0.0", "+0.0", "+0.0", "+0.0", "-25.0!", "-25.0!"]
    image = cv2.imread(str(plot))
    assert image is not None
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    fails(capsys, [*evaluate, "--plot", tmp_path / "c.txt"], r"a .png, .svg or .pdf")


def test_an_error_that_nobody_foresaw_is_a_line(monkeypatch, capsys):
    """A traceback helps a developer, with --debug, and nobody else."""

    def run(arguments):
        raise RuntimeError("the moon\nis down")

    monkeypatch.setattr("pixloc_ros.cli.validate_map.run", run)
    assert main(["validate_map", "x"]) == 1
    said = capsys.readouterr().err
    assert said == "error: RuntimeError: the moon is down (unexpected; `--debug` shows where)\n"
    for arguments in (["validate_map", "x", "--debug"], ["--debug", "validate_map", "x"]):
        with pytest.raises(RuntimeError):
            main(arguments)


def test_evaluate_reads_what_others_write(tmp_path, capsys):
    truth, results = tmp_path / "gt.txt", tmp_path / "r.txt"
    lines = [f"{n}.jpg 1 0 0 0 {n} 0 0" for n in range(3)]
    truth.write_text("# name\r\n" + "\r\n".join(f"{line} 525.0" for line in lines))
    results.write_text(
        "\n".join([*lines[:2], "2.jpg nan nan nan nan nan nan nan", "x 1 0 0 0 0 0 0"])
    )
    assert main(["evaluate", "--ground-truth", str(truth), "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "left out 1 line: 1 without a pose (NaN)" in out
    assert "1 poses are not in" in out


def test_options_of_the_original_project_keep_their_spelling():
    parser = Parser("benchmark", "")
    parser.add_argument("--eval-dir")
    parser.add_argument("overrides", nargs="*")
    for spelled in (["--eval_dir", "a_b"], ["--eval_dir=a_b"], ["--eval-dir=a_b"]):
        given = parser.parse_intermixed_args([*spelled, "refinement.num_dbs=3"])
        assert given.eval_dir == "a_b"
        assert given.overrides == ["refinement.num_dbs=3"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--no_such=1"])
