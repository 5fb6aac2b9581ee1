"""Recordings as they come: split, without metadata, by ROS 1, with messages that are broken."""

from __future__ import annotations

import shutil
import sqlite3

import cv2
import numpy as np
import pytest
import yaml
from bags import (
    COMPRESSED,
    ROS1,
    STORE,
    compressed,
    image,
    info,
    picture,
    pose,
    transforms,
    write,
    write_ros1,
)
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pixloc_ros.datasets.bag_files import BagError, is_recording
from pixloc_ros.datasets.bag_images import RECTIFIED, BagImages
from pixloc_ros.datasets.bag_poses import BagPoses
from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.datasets.bag_types import full_name
from pixloc_ros.errors import InputError

DRIVE = [("/image", t, image(t)) for t in (1.0, 2.0, 3.0)]


def stamps(path, topic="/image"):
    with BagImages(path, topic) as images:
        return [stamp for stamp, _ in images]


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_folder_without_metadata_and_its_bare_file(storage, tmp_path):
    path = write(tmp_path / "drive", DRIVE, storage)
    (path / "metadata.yaml").unlink()
    file = next(p for p in path.iterdir())
    assert stamps(path) == stamps(file) == [1, 2, 3]
    with BagReader(path) as reader:
        assert "without metadata.yaml, 1 files" in reader.notes[0]
    assert is_recording(path)


def split(tmp_path, storage=StoragePlugin.MCAP):
    """A recording in two files, as rosbag2 splits it."""
    path = write(tmp_path / "whole", DRIVE[:2], storage)
    second = write(tmp_path / "second", DRIVE[2:], storage)
    file = next(p for p in second.iterdir() if p.suffix != ".yaml")
    shutil.copy(file, path / f"whole_1{file.suffix}")
    content = yaml.safe_load((path / "metadata.yaml").read_text())
    listed = content["rosbag2_bagfile_information"]["relative_file_paths"]
    listed.append(f"whole_1{file.suffix}")
    (path / "metadata.yaml").write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_recording_in_several_files(storage, tmp_path):
    path = split(tmp_path, storage)
    assert stamps(path) == [1, 2, 3]
    first = min(p for p in path.iterdir() if p.suffix != ".yaml")
    first.unlink()
    assert stamps(path) == [3]
    with BagReader(path) as reader:
        assert f"1 of 2 files are not there ({first.name})" in reader.notes[0]
    (path / "metadata.yaml").write_text("{")
    with BagReader(path) as reader:
        assert "metadata.yaml is damaged" in reader.notes[0]
        assert reader.count("/image") == 1


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_a_compressed_recording_of_which_a_file_is_missing(mode, tmp_path):
    path = tmp_path / "packed"
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/image", image(1.0).__msgtype__, typestore=STORE)
        raw = STORE.serialize_cdr(image(1.0), connection.msgtype)
        writer.write(connection, 10**9, raw)
    assert stamps(path) == [1]
    content = yaml.safe_load((path / "metadata.yaml").read_text())
    content["rosbag2_bagfile_information"]["relative_file_paths"].append("lost.db3.zstd")
    (path / "metadata.yaml").write_text(yaml.safe_dump(content))
    assert stamps(path) == [1]


def test_a_type_that_changed_since(tmp_path):
    """Old SQLite keeps no definitions: Range of Humble has a field less than today's."""
    humble = get_typestore(Stores.ROS2_HUMBLE)
    kind = "sensor_msgs/msg/Range"
    time = humble.types["builtin_interfaces/msg/Time"](1, 0)
    head = humble.types["std_msgs/msg/Header"](time, "sonar")
    message = humble.types[kind](head, 0, 0.1, 0.2, 4.0, 1.5)
    path = tmp_path / "old"
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/sonar", kind, typestore=humble)
        writer.write(connection, 10**9, humble.serialize_cdr(message, kind))
    with sqlite3.connect(next(path.glob("*.db3"))) as database:
        database.execute("DELETE FROM message_definitions")
    with BagReader(path) as reader:
        assert [m.content.range for m in reader.messages(["/sonar"])] == [1.5]
        assert not reader.left_out


def test_one_of_several_files_is_broken(tmp_path):
    path = split(tmp_path)
    last = path / "whole_1.mcap"
    last.write_bytes(last.read_bytes()[:200])
    assert stamps(path) == [1, 2]
    with BagReader(path) as reader:
        assert reader.notes[0].startswith("whole_1.mcap is not read")
        assert "mcap recover" in reader.notes[0]


def qos(durability):
    never = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        5,
        QosReliability.RELIABLE,
        durability,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )


def test_one_topic_by_two_publishers_with_unlike_qos(tmp_path):
    path = tmp_path / "twice"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        made = [
            writer.add_connection(
                *("/image", image(1.0).__msgtype__),
                typestore=STORE,
                offered_qos_profiles=[qos(durability)],
            )
            for durability in (QosDurability.VOLATILE, QosDurability.TRANSIENT_LOCAL)
        ]
        for number, connection in enumerate(made):
            for stamp in (1.0, 2.0):
                message = image(stamp + 0.1 * number)
                raw = STORE.serialize_cdr(message, message.__msgtype__)
                writer.write(connection, round((stamp + 0.1 * number) * 1e9), raw)
    assert stamps(path) == pytest.approx([1.0, 1.1, 2.0, 2.1])
    with BagReader(path) as reader:
        assert reader.count("/image") == 4
        assert reader.latched("/image")


def test_one_topic_of_two_types(tmp_path):
    """As /tf of ROS 1, which tf and tf2 shared."""
    packed = compressed(2.0, cv2.imencode(".jpg", picture())[1])
    path = write(tmp_path / "both", [("/image", 1.0, image(1.0)), ("/image", 2.0, packed)])
    assert stamps(path) == [1, 2]


def test_ros1(tmp_path):
    path = write_ros1(
        tmp_path / "drive.bag",
        [
            *(("/cam/image", t, image(t, store=ROS1)) for t in (1.0, 2.0)),
            ("/cam/camera_info", 1.0, info(1.0, store=ROS1)),
            ("/tf", 1.0, transforms(("/map", "/camera", 1.0, 3, 1), store=ROS1)),
            ("/tf", 2.0, transforms(("/map", "/camera", 2.0, 5, 1), store=ROS1)),
        ],
    )
    with BagImages(path) as images:
        assert [stamp for stamp, _ in images] == [1, 2]
        assert images.frame == "camera"
        assert images.camera().focal.tolist() == [60, 60]
    found = BagPoses(path).pose("map", "camera", 1.5)
    assert found.translation.tolist() == [4, 0, 0]
    # in a folder, as a split recording of ROS 1
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(path, folder)
    assert stamps(folder, "/cam/image") == [1, 2]


def test_a_type_that_nobody_knows_costs_its_topic(tmp_path):
    STORE.register(get_types_from_msg("string text", "odd_msgs/msg/Odd"))
    odd = STORE.types["odd_msgs/msg/Odd"]("hello")
    path = write(tmp_path / "odd", [*DRIVE, ("/odd", 1.5, odd)], StoragePlugin.SQLITE3)
    assert stamps(path) == [1, 2, 3]
    with BagReader(path) as reader:
        # the recording has its definition
        assert [m.content.text for m in reader.messages(["/odd"])] == ["hello"]
        assert reader.types.as_defined_here("odd_msgs/msg/Odd")
        assert reader.types.as_defined_here("sensor_msgs/msg/Image")
        assert not reader.left_out


def test_old_names_of_types():
    assert full_name("sensor_msgs/Image") == "sensor_msgs/msg/Image"
    assert full_name("sensor_msgs/msg/Image") == "sensor_msgs/msg/Image"


def test_broken_images_cost_only_themselves(tmp_path):
    good = cv2.imencode(".jpg", picture())[1].tobytes()
    messages = [
        compressed(1.0, good),
        compressed(2.0, b""),
        compressed(3.0, good[:10]),
        compressed(4.0, good[: len(good) // 2]),
        compressed(5.0, b"h264 of some kind", "h264"),
        compressed(0.0, good),
        compressed(6.0, good),
    ]
    path = write(tmp_path / "bad", [("/i/compressed", 1.0 + n, m) for n, m in enumerate(messages)])
    with BagImages(path) as images:
        assert [stamp for stamp, _ in images] == [1, 6]
        assert images.left_out.reasons == {"not readable": 4, "without a stamp": 1}
        assert "/i/compressed at 2.000 s: not a readable compressed image ('jpeg', 0 bytes)" in (
            images.left_out.most
        )


def test_a_message_of_damaged_bytes(tmp_path):
    path = tmp_path / "cdr"
    kind = image(1.0).__msgtype__
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image", kind, typestore=STORE)
        for stamp in (1.0, 2.0, 3.0):
            raw = bytes(STORE.serialize_cdr(image(stamp), kind))
            writer.write(connection, round(stamp * 1e9), raw[:90] if stamp == 2.0 else raw)
    with BagImages(path) as images:
        assert [stamp for stamp, _ in images] == [1, 3]
        assert images.left_out.reasons == {"damaged": 1}


def test_camera_infos_before_the_camera_was_ready(tmp_path):
    entries = [
        *DRIVE,
        ("/camera_info", 1.0, info(1.0, focal=0.0)),
        ("/camera_info", 2.0, info(2.0, focal=float("nan"))),
        ("/camera_info", 3.0, info(3.0, focal=70.0)),
    ]
    with BagImages(write(tmp_path / "late", entries)) as images:
        assert images.camera().focal.tolist() == [70, 70]
    never = [*DRIVE, ("/camera_info", 1.0, info(1.0, focal=0.0))]
    with (
        BagImages(write(tmp_path / "never", never)) as images,
        pytest.raises(InputError, match="K is zero"),
    ):
        images.camera()


@pytest.mark.parametrize(
    ("topic", "given", "focal"),
    [
        ("/cam/image_rect", None, 50),
        ("/cam/image_rect_color", None, 50),
        ("/cam/image_raw", None, 60),
        ("/cam/image_raw", True, 50),
        ("/cam/image_rect", False, 60),
    ],
)
def test_rectified_images(topic, given, focal, tmp_path):
    entries = [(topic, 1.0, image(1.0)), ("/cam/camera_info", 1.0, info(1.0, d=[0.1] * 5))]
    with BagImages(write(tmp_path / "rect", entries), topic, rectified=given) as images:
        camera = images.camera()
    assert camera.focal.tolist() == [focal, focal]
    assert bool(camera.distortion.any()) == (focal == 60)


def test_the_camera_info_of_a_transport(tmp_path):
    packed = compressed(1.0, cv2.imencode(".png", np.full((4, 4), 900, np.uint16))[1])
    entries = [
        ("/depth/image/compressedDepth", 1.0, packed),
        ("/depth/camera_info", 1.0, info(1.0)),
        ("/other/camera_info", 1.0, info(1.0, focal=90.0)),
    ]
    with BagImages(write(tmp_path / "d", entries), depth=True) as images:
        assert images.camera().focal.tolist() == [60, 60]
        ((_, depth),) = images
    assert depth[0, 0] == pytest.approx(0.9)


def test_topics_without_their_slash_and_of_no_images(tmp_path):
    path = write(tmp_path / "a", [*DRIVE, ("/truth", 1.0, pose(1.0, 2))])
    assert stamps(path, "image") == [1, 2, 3]
    assert BagPoses(path, "truth", "/camera").pose("map", "camera", 1.0).translation[0] == 2
    nothing = write(tmp_path / "b", [("/truth", 1.0, pose(1.0, 2))])
    with pytest.raises(InputError, match="no topic of images"):
        BagImages(nothing)
    video = "foxglove_msgs/msg/CompressedVideo"
    STORE.register(get_types_from_msg("uint8[] data", video))
    frames = STORE.types[video](np.zeros(3, np.uint8))
    with pytest.raises(InputError, match="/video is video, which is not read"):
        BagImages(write(tmp_path / "c", [("/video", 1.0, frames)]))


def test_a_recording_without_any_transform(tmp_path):
    path = write(tmp_path / "bare", DRIVE)
    with pytest.raises(InputError, match="camera hangs on nothing, not on map"):
        BagPoses(path).pose("map", "camera", 1.0)


def test_transforms_that_do_not_matter(tmp_path):
    chain = [("map", "base", t, t, 1) for t in (1.0, 3.0)]
    bad = [
        ("base", "wheel", 1.0, float("nan"), 1),
        ("base", "wheel", 1.0, 0, 0),
        ("arm", "cup", 1.0, 0, 1),
        ("table", "cup", 2.0, 0, 1),
        ("", "cup", 2.0, 0, 1),
    ]
    entries = [
        ("/tf_static", 1.0, transforms(("base", "camera", 0.0, 0.5, 1))),
        *(("/tf", 1.0 + n, transforms(entry)) for n, entry in enumerate([*chain, *bad])),
    ]
    poses = BagPoses(write(tmp_path / "tf", entries))
    assert poses.pose("map", "camera", 2.0).translation[0] == 2.5
    assert poses.left_out.reasons == {"without finite numbers or rotation": 3}
    with pytest.raises(InputError, match="cup hangs on arm and on table"):
        poses.pose("table", "cup", 1.0)


def test_poses_that_cannot_be_used(tmp_path):
    nan = float("nan")
    good, bad = pose(2.0, 4), [pose(1.0, nan), pose(1.5, 1, w=0.0), pose(0.0, 1)]
    entries = [("/p", 1.0 + n, message) for n, message in enumerate([*bad, good])]
    poses = BagPoses(write(tmp_path / "some", entries), "/p")
    assert poses.pose("map", "base_link", 2.0).translation[0] == 4
    assert len(poses.left_out) == 3
    with pytest.raises(InputError, match=r"no pose of /p can be used: 2 without finite"):
        BagPoses(write(tmp_path / "none", entries[:3]), "/p")


def test_what_is_no_recording(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.bag").write_text("#ROSBAG V1.2\n")
    (tmp_path / "a.mcap").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, text in (
        ("none", "no such recording"),
        ("a.txt", "not a recording"),
        ("a.bag", "not a readable recording"),
        ("a.mcap", "not a readable recording"),
        ("folder", "no recording in it"),
    ):
        with pytest.raises(BagError, match=text) as raised:
            BagReader(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
    empty = write(tmp_path / "empty", [])
    with BagReader(empty) as reader:
        assert reader.start == 0
        assert reader.topics() == {}
    with pytest.raises(InputError, match="no topic of images"):
        BagImages(empty)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3", "ros1"])
def test_recordings_cut_anywhere_are_read_in_part_or_refused_in_a_line(storage, tmp_path):
    """Never a traceback, and never silence about what is lost."""
    if storage == "ros1":
        whole = write_ros1(
            tmp_path / "a.bag", [("/image", t, image(t, store=ROS1)) for t in (1.0, 2.0, 3.0)]
        )
    else:
        plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
        folder = write(tmp_path / "whole", DRIVE, plugin)
        whole = next(p for p in folder.iterdir() if p.suffix != ".yaml")
    data = whole.read_bytes()
    cut = tmp_path / f"cut{whole.suffix}"
    rng = np.random.default_rng(0)
    told = refused = 0
    for length in rng.integers(0, len(data), 200):
        cut.write_bytes(data[:length])
        try:
            with BagImages(cut) as images:
                count = sum(1 for _ in images)
                assert count == 3 or len(images.left_out) or images.notes
        except InputError as error:
            told += str(cut) in str(error)
            refused += 1
    assert told == refused > 100


def test_bytes_that_are_changed(tmp_path):
    """A bad disk: what is damaged is refused or counted, and nothing is raised."""
    folder = write(tmp_path / "whole", DRIVE)
    whole = next(folder.glob("*.mcap"))
    data = np.frombuffer(whole.read_bytes(), np.uint8)
    changed = tmp_path / "changed.mcap"
    rng, lines = np.random.default_rng(0), []
    for _ in range(80):
        damaged = data.copy()
        damaged[rng.integers(0, len(data), 20)] = rng.integers(0, 255, 20)
        changed.write_bytes(damaged.tobytes())
        try:
            with BagImages(changed, "/image") as images:
                list(images)
        except InputError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)


def test_messages_of_ros1_as_ros2_takes_them(tmp_path):
    path = write_ros1(tmp_path / "a.bag", [("/image", 1.0, image(1.0, store=ROS1))])
    with BagReader(path) as reader:
        ((connection, _, raw),) = reader.raw(["/image"])
        assert reader.types.as_defined_here(connection.msgtype)
        message = STORE.deserialize_cdr(reader.as_ros2(connection, raw), connection.msgtype)
    assert np.array_equal(message.data, image(1.0).data)
    assert connection.msgtype != COMPRESSED


def test_two_robots_in_one_recording(tmp_path):
    """Each has its own TF with the same names of frames, as Nav2 does it."""
    entries = [
        ("/robot1/camera/image", 1.0, image(1.0)),
        ("/robot1/tf", 1.0, transforms(("map", "camera", 1.0, 1, 1))),
        ("/robot2/tf", 1.0, transforms(("map", "camera", 1.0, -100, 1))),
    ]
    path = write(tmp_path / "two", entries)
    for beside, x in (("/robot1/camera/image", 1), ("/robot2/camera/image", -100)):
        found = BagPoses(path, beside=beside).pose("map", "camera", 1.0)
        assert found.translation[0] == x
    with pytest.raises(InputError, match="/robot1/tf, /robot2/tf: not clear whose"):
        BagPoses(path, beside="/camera/image")
    alone = BagPoses(write(tmp_path / "one", entries[:2]), beside="/camera/image")
    assert alone.pose("map", "camera", 1.0).translation[0] == 1


def test_a_simulation_that_was_reset(tmp_path):
    """What comes with the same stamps again is of another run."""
    runs = [(1.0 + n / 10, 0) for n in range(40)] + [(1.05 + n / 10, -50) for n in range(10)]
    entries = [
        entry
        for number, (stamp, x) in enumerate(runs)
        for entry in (
            ("/image", 100 + number / 10, image(stamp)),
            ("/tf", 100 + number / 10, transforms(("map", "camera", stamp, x, 1))),
        )
    ]
    path = write(tmp_path / "reset", entries)
    poses = BagPoses(path)
    assert poses.left_out.reasons == {"after a clock that went back": 10}
    with BagImages(path) as images:
        for stamp, _ in images:
            assert poses.pose("map", "camera", stamp).translation[0] == 0
        assert images.left_out.reasons == {"after a clock that went back": 10}


def test_a_gap_in_the_poses_is_not_bridged(tmp_path):
    far = [(1.0, 0), (2.0, 1), (30.0, 50), (31.0, 51)]
    near = [(1.0, 0), (30.0, 0.1)]
    for places, known in ((far, False), (near, True)):
        entries = [("/p", stamp, pose(stamp, x)) for stamp, x in places]
        poses = BagPoses(write(tmp_path / f"gap{known}", entries), "/p")
        assert (poses.pose("map", "base_link", 15.0) is not None) == known
        assert poses.pose("map", "base_link", 1.0) is not None


def test_poses_of_a_frame_that_tf_tells_of_as_well(tmp_path):
    """A footprint below the base: what the topic says of it counts."""
    odometry = STORE.types["nav_msgs/msg/Odometry"]
    covariance = np.zeros(36)
    vector = STORE.types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    twist = STORE.types["geometry_msgs/msg/TwistWithCovariance"](
        STORE.types["geometry_msgs/msg/Twist"](vector, vector), covariance
    )
    placed = STORE.types["geometry_msgs/msg/PoseWithCovariance"]

    def moving(stamp):
        there = pose(stamp, 4)
        return odometry(there.header, "footprint", placed(there.pose, covariance), twist)

    entries = [
        ("/tf_static", 1.0, transforms(("footprint", "base_link", 0.0, 1, 1))),
        ("/tf_static", 1.0, transforms(("base_link", "camera", 0.0, 0.5, 1))),
        *(("/tf", t, transforms(("odom", "footprint", t, 70, 1))) for t in (1.0, 2.0)),
        *(
            (
                "/gt",
                t,
                odometry(
                    pose(t, 4).header, "footprint", placed(pose(t, 4).pose, covariance), twist
                ),
            )
            for t in (1.0, 2.0)
        ),
    ]
    poses = BagPoses(write(tmp_path / "footprint", entries), "/gt")
    assert poses.pose("map", "camera", 1.5).translation[0] == 5.5


def test_whose_camera_info_it_is(tmp_path):
    """The only one of a recording may be that of another camera."""
    other = info(1.0, focal=90.0)
    other.header.frame_id = "depth_camera"
    entries = [("/color/image", 1.0, image(1.0)), ("/depth/camera_info", 1.0, other)]
    with (
        BagImages(write(tmp_path / "other", entries)) as images,
        pytest.raises(InputError, match="the only one, /depth/camera_info, is of 'depth_camera'"),
    ):
        images.camera()
    entries[1] = ("/info", 1.0, info(1.0))
    with BagImages(write(tmp_path / "own", entries)) as images:
        assert images.camera().focal[0] == 60
        assert images.notes == ["camera_info of /info is taken for /color/image"]
    zoomed = [
        ("/cam/image", 1.0, image(1.0)),
        ("/cam/camera_info_rect", 1.0, info(1.0)),
        ("/cam/camera_info_rect", 2.0, info(2.0, focal=61.0)),
        ("/other/camera_info", 1.0, info(1.0)),
    ]
    with BagImages(write(tmp_path / "zoomed", zoomed)) as images:
        assert images.camera().focal[0] == 60
        assert "1 messages differ from the first" in images.notes[0]


@pytest.mark.parametrize(
    "topic",
    [
        *("/l/image_rectified", "/l/rectified_image", "/l/image_undistorted", "/l/rect/image"),
        *("/l/imageRect", "/l/image_rect_color/compressed"),
    ],
)
def test_names_of_rectified_images(topic, tmp_path):
    message = image(1.0)
    if topic.endswith("compressed"):
        message = compressed(1.0, cv2.imencode(".jpg", picture())[1])
    entries = [(topic, 1.0, message), ("/l/camera_info", 1.0, info(1.0, d=[0.1] * 5))]
    if "/rect/" in topic:
        entries[1] = ("/l/rect/camera_info", *entries[1][1:])
    with BagImages(write(tmp_path / "r", entries), topic) as images:
        assert images.camera().focal[0] == 50
        assert "by its name of rectified images" in images.notes[0]
    assert not RECTIFIED.search("/direct/image_raw")


def test_rectified_by_name_without_a_rectified_calibration(tmp_path):
    plain = info(1.0)
    plain.p[:] = 0
    entries = [("/l/image_rect", 1.0, image(1.0)), ("/l/camera_info", 1.0, plain)]
    with BagImages(write(tmp_path / "r", entries)) as images:
        assert images.camera().focal[0] == 60


def test_a_database_that_was_not_closed(tmp_path):
    """SQLite keeps what is new in a log beside it until someone puts it in."""
    path = write(tmp_path / "open", DRIVE[:2], StoragePlugin.SQLITE3)
    file = next(path.glob("*.db3"))
    other = next(write(tmp_path / "more", DRIVE[2:], StoragePlugin.SQLITE3).glob("*.db3"))
    with sqlite3.connect(other) as database:
        ((stamp, data),) = database.execute("SELECT timestamp, data FROM messages").fetchall()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    (topic,) = database.execute("SELECT id FROM topics").fetchone()
    database.execute(
        "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", (topic, stamp, data)
    )
    database.commit()
    for part in path.glob("*.db3*"):
        shutil.copy(part, crashed)
    database.close()
    assert stamps(crashed) == [1, 2, 3]
    with BagReader(crashed) as reader:
        assert any("was not closed" in note for note in reader.notes)


def test_files_that_were_compressed_alone(tmp_path):
    path = tmp_path / "packed"
    for mode in (CompressionMode.FILE, CompressionMode.MESSAGE):
        shutil.rmtree(path, ignore_errors=True)
        writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connection = writer.add_connection("/image", image(1.0).__msgtype__, typestore=STORE)
            writer.write(connection, 10**9, STORE.serialize_cdr(image(1.0), connection.msgtype))
        (path / "metadata.yaml").unlink()
        assert stamps(path) == [1]
        assert stamps(next(path.iterdir())) == [1]
    (tmp_path / "a.bag.active").write_bytes(b"#ROSBAG V2.0")
    with pytest.raises(BagError, match="was never closed"):
        BagReader(tmp_path / "a.bag.active")
