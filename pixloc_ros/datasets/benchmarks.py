"""The public benchmarks as they lie on disk, and one's own data laid out as hloc does.

Every path is relative to the data set's folder, or to the folder of hloc's outputs for it; results
go to a third. These are the layouts that the original project downloads and expects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers, write_text
from pixloc_ros.errors import InputError


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


@dataclass(frozen=True)
class DatasetLayout:
    """Where a benchmark keeps what; `{part}` stands for a scene, a slice or a condition.

    kind: what a part is called, empty where there is one only. images: of queries and of
    references, under the data set. sfm, queries, pairs, descriptors, logs: under the outputs;
    queries may hold a wildcard. truth: COLMAP model under the data set, listed: the queries
    that count, in a file of its folder. results: file name. name_parts: how many last parts
    of a query's name its result keeps, 0 for all. list_queries: lines of the query list of a part,
    from the data set's folder, where the benchmark comes without. submitted: its server judges.

    published: settings that PixLoc's authors ran it with from retrieved poses; from_poses: from
    hloc's poses; see `evaluation.benchmark_options`.
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
    list_queries: Callable[[Path, Part], list[str]] | None = None
    submitted: bool = False
    published: tuple[str, ...] = ()
    from_poses: tuple[str, ...] = ()


def _cmu_queries(data: Path, part: Part) -> list[str]:
    """Camera c0 or c1 is the third word of `img_00119_c1_1303398474779439us.jpg`."""
    cameras = {fields[0]: fields[1:] for _, fields in data_lines(data / "intrinsics.txt")}
    lines = []
    for where, fields in data_lines(
        data / f"slice{part.name}" / f"test-images-slice{part.name}.txt"
    ):
        words = fields[0].split("_")
        if len(words) < 3 or words[2] not in cameras:
            raise ListError(f"{where}: {fields[0]} names none of the cameras {sorted(cameras)}")
        lines.append(" ".join([fields[0], *cameras[words[2]]]))
    return lines


def _robotcar_queries(data: Path, part: Part) -> list[str]:
    """Images of 1024 x 1024 pixels without distortion, by the folder they lie in."""
    images, cameras = part.query_images, {}
    for side in ("left", "right", "rear"):
        path = data / "intrinsics" / f"{side}_intrinsics.txt"
        rows = [fields for _, fields in data_lines(path)]
        if len(rows) < 4 or any(len(row) < 2 for row in rows[:4]):
            raise ListError(f"{path}: expected 'fx', 'fy', 'cx' and 'cy' with a number each")
        fx, fy, cx, cy = finite_numbers(str(path), [row[1] for row in rows[:4]]).tolist()
        cameras[side] = f"PINHOLE 1024 1024 {fx:g} {fy:g} {cx:g} {cy:g}"
    names = sorted(
        path.relative_to(images).as_posix() for path in (images / part.name).glob("**/*.jpg")
    )
    strange = next((name for name in names if Path(name).parent.name not in cameras), None)
    if strange is not None:
        raise InputError(f"{images / strange}: lies in none of the folders left, right, rear")
    if not names:
        raise InputError(f"{images / part.name}: no image to localize")
    return [f"{name} {cameras[Path(name).parent.name]}" for name in names]


_MEGADEPTH, _CMU = "experiment=pixloc_megadepth", "experiment=pixloc_cmu"
_TWO_SCALES = "refinement.multiscale=[4,1]"
_AVERAGED = "refinement.average_observations=true"
_FROM_POSES = (
    *("refinement.num_dbs=5", "refinement.min_points_opt=100", "refinement.layer_indices=[0,1]"),
    "refinement.point_selection=inliers",
)

_AACHEN = {
    "sfm": "sfm_superpoint+superglue",
    "queries": "*_time_queries_with_intrinsics.txt",
    "pairs": "pairs-query-netvlad50.txt",
    "query_images": "images/images_upright",
    "reference_images": "images/images_upright",
    "descriptors": "aachen_tf-netvlad.h5",
    "name_parts": 1,
    "published": (
        *(_MEGADEPTH, "refinement.num_dbs=3", _TWO_SCALES, "optimizer.num_iters=150"),
        *("refinement.do_pose_approximation=true", "optimizer.pad=1"),
    ),
    "from_poses": (
        *(_MEGADEPTH, *_FROM_POSES, _AVERAGED, "optimizer.num_iters=50", "optimizer.pad=1"),
        "features.preprocessing.resize=1600",
    ),
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
            published=(_MEGADEPTH, "refinement.num_dbs=5", _TWO_SCALES),
            from_poses=(_MEGADEPTH, *_FROM_POSES, _AVERAGED),
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
            published=(_MEGADEPTH, "refinement.num_dbs=5", _TWO_SCALES, _AVERAGED),
            from_poses=(_MEGADEPTH, *_FROM_POSES, _AVERAGED),
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
            list_queries=_cmu_queries,
            submitted=True,
            published=(_CMU, "refinement.num_dbs=2"),
            from_poses=(_CMU, *_FROM_POSES),
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
            list_queries=_robotcar_queries,
            submitted=True,
            published=(_CMU, "refinement.num_dbs=2"),
            from_poses=(_CMU, *_FROM_POSES),
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
            published=(_MEGADEPTH, "refinement.num_dbs=5"),
            from_poses=(_MEGADEPTH, *_FROM_POSES, _AVERAGED),
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
    """Make the query list of a benchmark that comes without, from its intrinsics."""
    if layout.list_queries is None or list(part.queries.parent.glob(part.queries.name)):
        return
    lines = layout.list_queries(data, part)
    part.queries.parent.mkdir(parents=True, exist_ok=True)
    write_text(part.queries, "".join(line + "\n" for line in lines))
