from __future__ import annotations

import pytest
import torch

from pixloc_ros.datasets import ListError, read_pairs, read_poses, read_queries, write_poses
from pixloc_ros.datasets.sequence import (
    pose_at,
    read_sequence,
    read_timestamps,
    read_trajectory,
)
from pixloc_ros.datasets.text import write_text
from pixloc_ros.geometry import Pose

QUERY = "a.jpg PINHOLE 640 480 500 500 320 240\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "list.txt"
        if isinstance(text, bytes):
            path.write_bytes(text)
        elif text is not None:
            path.write_text(text)
        return path

    return write


def test_queries_keep_their_order(file):
    text = "# comment\n\nb/2.jpg SIMPLE_RADIAL 640 480 500 320 240 0.1\n" + QUERY
    queries = read_queries(file(text))
    assert list(queries) == ["b/2.jpg", "a.jpg"]
    assert queries["b/2.jpg"].distortion[0] == 0.1


def test_poses_round_trip(file, tmp_path):
    poses = {f"{i}.jpg": Pose.exp(torch.randn(6, dtype=torch.float64)) for i in range(3)}
    path = tmp_path / "poses.txt"
    write_poses(path, poses)
    back = read_poses(path)
    assert list(back) == list(poses)
    for name, pose in poses.items():
        assert torch.allclose(back[name].matrix(), pose.matrix(), atol=1e-7)
    write_poses(path, {})
    assert read_poses(path) == {}


def test_pairs_keep_their_rank(file):
    assert read_pairs(file("q a\nq b\nr c\n")) == {"q": ["a", "b"], "r": ["c"]}


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_queries, None, "no such file"),
        (read_queries, "", "no query"),
        (read_queries, "a.jpg PINHOLE\n", r":1: expected 'name MODEL"),
        (read_queries, "a.jpg PINHOLE 640 480 x 500 320 240\n", ":1: expected numbers"),
        (read_queries, "a.jpg PINHOLE 640 480 nan 500 320 240\n", ":1: a number is not finite"),
        (read_queries, "a.jpg PINHOLE 640 480 0 0 0 0\n", ":1: focal length"),
        (read_queries, "a.jpg PINHOLE 0 0 1 1 0 0\n", ":1: image size"),
        (read_queries, QUERY + QUERY, ":2: a.jpg is listed twice"),
        (read_queries, b"\xff\xfe\x00\x9c", "not a text file"),
        (read_poses, "a 1 0 0 0 0 0\n", ":1: expected 'name qw"),
        (read_poses, "a 0 0 0 0 0 0 0\n", ":1: the quaternion's norm is 0"),
        (read_poses, "a 1 0 0 0 inf 0 0\n", ":1: a number is not finite"),
        (read_poses, "a 1 0 0 0 0 0 0\na 1 0 0 0 0 0 0\n", ":2: a is listed twice"),
        (read_pairs, "q\n", ":1: expected 'query reference'"),
        (read_trajectory, "1 2 3\n", ":1: expected 'seconds"),
        (read_trajectory, "1 0 0 0 0 0 0 0\n", ":1: the quaternion's norm is 0"),
    ],
)
def test_bad_lists_name_file_and_line(file, reader, text, message):
    path = file(text)
    with pytest.raises(ListError, match=message) as caught:
        reader(path)
    assert str(path) in str(caught.value)


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udc00")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ListError, match="no such folder"):
        write_text(tmp_path / "no" / "out.txt", "x")


def test_sequence_without_stamps_runs_at_one_a_second(tmp_path):
    (tmp_path / "queries_with_intrinsics.txt").write_text(QUERY + QUERY.replace("a.jpg", "b.jpg"))
    (tmp_path / "odometry_sim.txt").write_text("1 0 0 0 0 0 0 1\n")
    sequence = read_sequence(tmp_path)
    assert [f.stamp for f in sequence.frames] == [1.0, 2.0]
    assert sequence.odometry == {}  # nothing relates it to the images
    assert sequence.frames[0].truth is None


def test_sequence_needs_every_stamp(tmp_path):
    (tmp_path / "queries_with_intrinsics.txt").write_text(QUERY)
    (tmp_path / "timestamps.txt").write_text("b.jpg 3.0\n")
    with pytest.raises(ListError, match=r"no stamp for a\.jpg"):
        read_sequence(tmp_path)


def test_a_trajectory_is_interpolated_within_what_it_covers():
    turn = torch.tensor([0.0, 0.0, 0.4], dtype=torch.float64)
    ends = {
        1.0: Pose.from_rotvec(0 * turn, torch.zeros(3).double()),
        2.0: Pose.from_rotvec(turn, torch.ones(3).double()),
    }
    middle = pose_at(ends, 1.25)
    assert torch.allclose(middle.translation, torch.full((3,), 0.25).double())
    expected = Pose.from_rotvec(turn / 4, torch.zeros(3).double()).rotation
    assert torch.allclose(middle.rotation, expected)
    assert pose_at(ends, 2.0) is ends[2.0]
    assert pose_at(ends, 0.5) is None
    assert pose_at(ends, 2.5) is None
    assert pose_at({}, 1.0) is None


def test_poses_in_another_order_are_refused(file):
    """TUM's files and those of Cambridge have eight columns, too."""
    for text in ("1305031102.17 0.5 1.2 0.3 0.1 0.2 0.3 0.9\n", "a 12.5 3 1 0.5 0.5 0.5 0.5\n"):
        with pytest.raises(ListError, match=r":1: the quaternion's norm .* expected 'name qw"):
            read_poses(file(text))
    with pytest.raises(ListError, match=r"norm .* expected 'seconds tx"):
        read_trajectory(file("1 0.5 0.5 0.5 0.5 12 3 1\n"))
    with pytest.raises(ListError, match=":2: a is listed twice"):
        read_timestamps(file("a 1\na 2\n"), [])
