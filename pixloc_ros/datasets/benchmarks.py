"""The public benchmarks as they lie on disk, and one's own data laid out as hloc does.

Every path is relative to the data set's folder, or to the folder of hloc's outputs for it; results
go to a third. These are the layouts that the original project downloads and expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers, write_text
from pixloc_ros.errors import InputError


@dataclass(frozen=True)
class DatasetLayout:
    """Where a benchmark keeps what; `{part}` stands for a scene, a slice or a condition.

    kind: what a part is called, empty where there is one only. images: of queries and of
    references, under the data set. sfm, queries, pairs, descriptors, logs: under the outputs;
    queries may hold a wildcard. truth: COLMAP model under the data set, listed: the queries
    that count, in a file of its folder. results: file name. name_parts: how many last parts
    of a query's name its result keeps, 0 for all.
    """

    name: str
    sfm: str
    queries: str
    pairs: str
    results: str
    query_images: str
    reference_images: str
    kind: str = ""
    parts: tuple[str, ...] = ("",)
    descriptors: str = ""
    logs: str = ""
    truth: str = ""
    listed: str = ""
    name_parts: int = 0
    pose_approximation: bool = False


@dataclass(frozen=True)
class Part:
    """One part of a benchmark with its paths; those of `DatasetLayout`, made absolute."""

    name: str
    query_images: Path
    reference_images: Path
    sfm: Path
    queries: Path
    pairs: Path
    results: Path
    descriptors: Path | None = None
    logs: Path | None = None
    truth: Path | None = None
    listed: Path | None = None

    def query_lists(self) -> list[Path]:
        """The files that `queries` names. Raises InputError where there is none."""
        found = sorted(self.queries.parent.glob(self.queries.name))
        if not found:
            raise InputError(f"{self.queries}: no such query list")
        return found


_AACHEN = {
    "sfm": "sfm_superpoint+superglue",
    "queries": "*_time_queries_with_intrinsics.txt",
    "pairs": "pairs-query-netvlad50.txt",
    "query_images": "images/images_upright",
    "reference_images": "images/images_upright",
    "descriptors": "aachen_tf-netvlad.h5",
    "name_parts": 1,
    "pose_approximation": True,
}

CMU_GROUPS = {
    "urban": tuple(range(2, 7)),
    "suburban": tuple(range(13, 18)),
    "park": tuple(range(18, 22)),
}

LAYOUTS = {
    layout.name: layout
    for layout in (
        DatasetLayout(
            name="7Scenes",
            kind="scenes",
            parts=("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs"),
            query_images="{part}",
            reference_images="{part}",
            sfm="{part}/sfm_superpoint+superglue+depth",
            queries="{part}/query_list_with_intrinsics.txt",
            pairs="7scenes_densevlad_retrieval/{part}_top10.txt",
            truth="7scenes_sfm_triangulated/{part}/triangulated",
            listed="list_test.txt",
            results="pixloc_7scenes_{part}.txt",
            name_parts=2,
        ),
        DatasetLayout(
            name="Cambridge",
            kind="scenes",
            parts=("ShopFacade", "KingsCollege", "GreatCourt", "OldHospital", "StMarysChurch"),
            query_images="{part}",
            reference_images="{part}",
            sfm="{part}/sfm_superpoint+superglue",
            queries="{part}/query_list_with_intrinsics.txt",
            pairs="{part}/pairs-query-netvlad10.txt",
            truth="CambridgeLandmarks_Colmap_Retriangulated_1024px/{part}/empty_all",
            listed="../list_query.txt",
            results="pixloc_Cambridge_{part}.txt",
            name_parts=2,
        ),
        DatasetLayout(name="Aachen", results="pixloc_Aachen.txt", **_AACHEN),  # type: ignore[arg-type]
        DatasetLayout(name="Aachen-v1.1", results="pixloc_Aachen-v1.1.txt", **_AACHEN),  # type: ignore[arg-type]
        DatasetLayout(
            name="CMU",
            kind="slices",
            parts=tuple(str(n) for group in CMU_GROUPS.values() for n in group),
            query_images="slice{part}/query",
            reference_images="slice{part}/database",
            sfm="slice{part}/sfm_superpoint+superglue/model",
            queries="slice{part}/queries_with_intrinsics.txt",
            pairs="slice{part}/pairs-query-netvlad10.txt",
            descriptors="slice{part}/cmu-slice{part}_tf-netvlad.h5",
            logs="slice{part}/CMU_hloc_superpoint+superglue_netvlad10.txt_logs.pkl",
            results="pixloc_CMU_slice{part}.txt",
            name_parts=1,
        ),
        DatasetLayout(
            name="RobotCar",
            kind="conditions",
            parts=(
                *("dawn", "dusk", "night", "night-rain", "overcast-summer"),
                *("overcast-winter", "rain", "snow", "sun"),
            ),
            query_images="images",
            reference_images="images",
            sfm="sfm_superpoint+superglue",
            queries="{part}_queries_with_intrinsics.txt",
            pairs="pairs-query-netvlad10-percam-perloc.txt",
            descriptors="robotcar_ov-ref_tf-netvlad.h5",
            results="pixloc_RobotCar_{part}.txt",
            name_parts=2,
        ),
        DatasetLayout(
            name="own",
            query_images="images",
            reference_images="images",
            sfm="sfm",
            queries="queries_with_intrinsics.txt",
            pairs="pairs.txt",
            truth="truth",
            results="pixloc_own.txt",
        ),
    )
}


@dataclass(frozen=True)
class Roots:
    """data: folder of the data set. outputs: of what hloc made of it. results: of ours."""

    data: Path
    outputs: Path
    results: Path
    replaced: dict[str, Path] = field(default_factory=dict)
    """Paths that the user names instead, by the field of `Part`."""


def parts_of(layout: DatasetLayout, roots: Roots, chosen: Sequence[str]) -> list[Part]:
    """The chosen parts, all where none is chosen. Raises InputError for an unknown one."""
    unknown = next((name for name in chosen if name not in layout.parts), None)
    if unknown is not None:
        known = ", ".join(layout.parts)
        raise InputError(f"{layout.name} has no {layout.kind} {unknown!r}; there are {known}")

    def place(name: str, root: Path, template: str, part: str) -> Path | None:
        if name in roots.replaced:
            return roots.replaced[name]
        return root / template.format(part=part) if template else None

    made = []
    for part in chosen or layout.parts:
        fixed = {
            name: place(name, root, getattr(layout, name), part)
            for name, root in (
                ("query_images", roots.data),
                ("reference_images", roots.data),
                ("sfm", roots.outputs),
                ("queries", roots.outputs),
                ("pairs", roots.outputs),
                ("descriptors", roots.outputs),
                ("logs", roots.outputs),
                ("truth", roots.data),
                ("results", roots.results),
            )
        }
        truth = fixed["truth"]
        listed = truth / layout.listed if truth is not None and layout.listed else None
        made.append(Part(name=part, listed=listed, **fixed))  # type: ignore[arg-type]
    return made


def write_missing_queries(layout: DatasetLayout, part: Part, data: Path) -> None:
    """Make the query lists that CMU and RobotCar come without from their intrinsics."""
    if list(part.queries.parent.glob(part.queries.name)):
        return
    if layout.name == "CMU":
        lines = _cmu_queries(data, part.name)
    elif layout.name == "RobotCar":
        lines = _robotcar_queries(data, part.query_images, part.name)
    else:
        return
    part.queries.parent.mkdir(parents=True, exist_ok=True)
    write_text(part.queries, "".join(line + "\n" for line in lines))


def _cmu_queries(data: Path, part: str) -> list[str]:
    """Camera c0 or c1 is the third word of `img_00119_c1_1303398474779439us.jpg`."""
    cameras = {fields[0]: fields[1:] for _, fields in data_lines(data / "intrinsics.txt")}
    lines = []
    for where, fields in data_lines(data / f"slice{part}" / f"test-images-slice{part}.txt"):
        words = fields[0].split("_")
        if len(words) < 3 or words[2] not in cameras:
            raise ListError(f"{where}: {fields[0]} names none of the cameras {sorted(cameras)}")
        lines.append(" ".join([fields[0], *cameras[words[2]]]))
    return lines


def _robotcar_queries(data: Path, images: Path, condition: str) -> list[str]:
    """Images of 1024 x 1024 pixels without distortion, by the folder they lie in."""
    cameras = {}
    for side in ("left", "right", "rear"):
        path = data / "intrinsics" / f"{side}_intrinsics.txt"
        rows = [fields for _, fields in data_lines(path)]
        if len(rows) < 4 or any(len(row) < 2 for row in rows[:4]):
            raise ListError(f"{path}: expected 'fx', 'fy', 'cx' and 'cy' with a number each")
        fx, fy, cx, cy = finite_numbers(str(path), [row[1] for row in rows[:4]]).tolist()
        cameras[side] = f"PINHOLE 1024 1024 {fx:g} {fy:g} {cx:g} {cy:g}"
    names = sorted(
        path.relative_to(images).as_posix() for path in (images / condition).glob("**/*.jpg")
    )
    strange = next((name for name in names if Path(name).parent.name not in cameras), None)
    if strange is not None:
        raise InputError(f"{images / strange}: lies in none of the folders left, right, rear")
    if not names:
        raise InputError(f"{images / condition}: no image to localize")
    return [f"{name} {cameras[Path(name).parent.name]}" for name in names]
