"""`speed`: the speed of each stage on this machine."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.datasets import write_text
from pixloc_ros.datasets.rendered_room import render_room
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.agreement import agreements
from pixloc_ros.evaluation.endurance import Endured, endure
from pixloc_ros.evaluation.map_sizes import SizeCost, size_costs
from pixloc_ros.evaluation.original_pixloc import require_checkout
from pixloc_ros.evaluation.roofline import shares
from pixloc_ros.evaluation.speed import against, curves, measure
from pixloc_ros.features import FeatureNetwork, open_network, read_image
from pixloc_ros.features.pixloc import PixLocNetwork, PixLocVGG19
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior
from pixloc_ros.mapping import PixMap, build_map, read_colmap
from pixloc_ros.options import override, select_device
from pixloc_ros.visualization.curves import plot_sizes


def _rendered(folder: Path, network: FeatureNetwork) -> tuple[Path, Path, Path]:
    """A small map, its images, and a query image of the rendered room."""
    render_room(folder, seconds=0.1, references=16, mapped=8.0)
    map_file = folder / "room.pixmap.h5"
    build_map(read_colmap(folder / "sparse"), folder / "images", map_file, network)
    return map_file, folder / "images", folder / "images/query/0000.jpg"


def _original_network(given: argparse.Namespace) -> PixLocNetwork:
    """The weights that the original runs with too; untrained ones cost the same time."""
    if given.against_weights is None:
        torch.manual_seed(0)
        return PixLocVGG19().eval().to(select_device(given.device))
    network = open_network(given.against_weights).to(select_device(given.device))
    if not isinstance(network, PixLocNetwork):
        raise InputError(
            f"{given.against_weights}: weights of {network.architecture}, the original cannot "
            "run them"
        )
    return network


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--sizes {text}: numbers of references, with commas between")
    return [int(part) for part in parts]


def _print_sizes(costs: Iterable[SizeCost]) -> list[dict[str, Any]]:
    names = [field.name for field in fields(SizeCost)]
    print("\n" + "  ".join(f"{name:>10}" for name in names))
    rows = []
    for cost in costs:
        row = asdict(cost)
        rows.append(row)
        print(
            "  ".join(
                f"{v:>10}" if isinstance(v, (bool, int)) else f"{v:>10.3g}" for v in row.values()
            ),
            flush=True,
        )
    return rows


def _print_endured(rows: Iterable[Endured]) -> list[dict[str, Any]]:
    names = [field.name for field in fields(Endured)]
    print("\n" + "  ".join(f"{name:>10}" for name in names))
    kept = []
    for endured in rows:
        row = asdict(endured)
        kept.append(row)
        print("  ".join(f"{value:>10.6g}" for value in row.values()), flush=True)
    return kept


def make_parser() -> Parser:
    parser = Parser("speed", "Time each stage of localization on this machine.")
    parser.add_argument("--map", metavar="FILE", help="map file (default: a rendered room)")
    parser.add_argument(
        "--image", metavar="FILE", help="query, taken with a camera of the map's references"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="(default 15)")
    parser.add_argument(
        "--roofline", action="store_true", help="beside what this machine could do"
    )
    parser.add_argument(
        "--curves",
        action="store_true",
        help="time against points, hypotheses, references and image size",
    )
    parser.add_argument(
        "--endure", type=int, metavar="N", help="time and memory over N queries in a row"
    )
    parser.add_argument(
        "--agreement",
        action="store_true",
        help="how far the poses of the fused kernels are from plain torch's",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="--roofline, --curves, --agreement and --endure 10000",
    )
    parser.add_argument(
        "--sizes",
        metavar="N,...",
        help="time and memory in maps of N references, made of --map",
    )
    parser.add_argument("--plot", metavar="FILE", help="write the curves of --sizes")
    parser.add_argument(
        "--cache-mb", type=float, default=512.0, metavar="MB", help="(default 512)"
    )
    parser.add_argument(
        "--against", metavar="DIR", help="beside the original, in a checkout of cvg/pixloc"
    )
    parser.add_argument(
        "--against-weights", metavar="FILE", help="of a PixLoc network (default: untrained)"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="the map's reference images, which the original reads"
    )
    parser.add_network()
    parser.add_overrides()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    if bool(given.map) != bool(given.image):
        raise InputError("--map and --image go together")
    if given.against and given.map and not given.images:
        raise InputError("--against needs --images, the folder of the map's reference images")
    if given.images and not Path(given.images).is_dir():
        raise InputError(f"{given.images}: no such folder")
    require_outputs([given.json, given.plot], [given.map, given.image, given.weights])
    sizes = _sizes(given.sizes) if given.sizes else []
    if given.plot and not sizes:
        raise InputError("--plot is of --sizes")
    if given.cache_mb <= 0:
        raise InputError(f"--cache-mb {given.cache_mb}: positive")
    if given.all:
        given.roofline = given.curves = given.agreement = True
        given.endure = given.endure or 10_000
    if given.endure is not None and given.endure < 1:
        raise InputError(f"--endure {given.endure}: at least one")
    if given.repeats < 1:
        raise InputError(f"--repeats {given.repeats}: at least one")
    network = network_of(given)
    original = None
    if given.against:
        original = _original_network(given)
        require_checkout(Path(given.against))
    with tempfile.TemporaryDirectory() as folder:
        if given.map:
            map_file, images, image_file = given.map, Path(given.images or "."), given.image
        else:
            map_file, images, image_file = _rendered(Path(folder), network)
        with PixMap(map_file) as pixmap:
            image = read_image(image_file)
            size = (image.shape[1], image.shape[0])
            entry = next((c for c in pixmap.camera_entries if (c.width, c.height) == size), None)
            if entry is None:
                raise InputError(
                    f"{image_file}: {size[0]} x {size[1]} pixels, no camera of the map is so"
                )
            localizer, camera = Localizer(pixmap, network, options, given.cache_mb), entry.camera()
            facts, timings = measure(localizer, image, camera, given.repeats)
            content: dict[str, Any] = dict(facts)
            for key, value in facts.items():
                print(f"{key:>16}  {value}")
            for name, stages in timings.items():
                content[name] = [asdict(t) for t in stages]
                print(f"\n{name:>16}  {'median ms':>10}  {'p95 ms':>10}")
                for timing in stages:
                    print(f"{timing.stage:>16}  {timing.median:10.2f}  {timing.p95:10.2f}")
            if given.roofline:
                limits, works = shares(localizer, image, camera, given.repeats)
                content["ceilings"] = asdict(limits)
                content["roofline"] = [asdict(w) | {"reached": w.reached} for w in works]
                print(
                    f"\nthis machine: {limits.bandwidth / 1e9:.1f} GB/s copied in memory, "
                    f"{limits.operations / 1e12:.3g} TFLOP/s in the network's precision, "
                    f"{limits.vector / 1e12:.3g} in single"
                )
                print(f"{'':>28}  {'MB':>8}  {'GFLOP':>8}  {'floor ms':>9}  {'ms':>8}  reached")
                for work in works:
                    print(
                        f"{work.work:>28}  {work.bytes / 1e6:8.1f}  {work.operations / 1e9:8.2f}"
                        f"  {work.floor_ms:9.3f}  {work.ms:8.3f}  {100 * work.reached:6.1f}%"
                    )
            if given.curves:
                content["curves"] = curves(localizer, image, camera, given.repeats)
                for name, points in content["curves"].items():
                    print(f"\n{name:>16}  {'median ms':>10}")
                    for value, ms in points:
                        print(f"{value:>16}  {ms:10.2f}")
            found = localizer.localize(image, camera)
            if given.agreement:
                rows = agreements(
                    localizer, open_network(given.weights), image, camera, found.cam_from_map
                )
                content["agreement"] = [asdict(row) for row in rows]
                print(f"\n{'apart at most':>28}  {'mm':>8}  {'deg':>8}  poses  refused by one")
                for row in rows:
                    print(
                        f"{row.what:>28}  {1e3 * row.metres:8.4f}  {row.degrees:8.5f}  "
                        f"{row.compared:>5}  {row.told_apart:>14}"
                    )
            if given.endure:
                prior = Prior(found.cam_from_map)
                endured = endure(localizer, image, camera, prior, given.endure)
                content["endure"] = _print_endured(endured)
            if sizes:
                content["sizes"] = _print_sizes(
                    size_costs(localizer, Path(image_file), sizes, given.weights, given.repeats)
                )
                if given.plot:
                    plot_sizes(content["sizes"], given.plot)
            if original is not None:
                pairs = against(
                    Path(given.against), localizer, images, image, entry, original, given.repeats
                )
                content["against"] = [asdict(p) | {"ratio": p.ratio} for p in pairs]
                print(f"\n{'original ms':>12}  {'ours ms':>10}  {'ratio':>7}  {'apart':>17}")
                for pair in pairs:
                    apart = f"{pair.apart_m:.3f} m {pair.apart_deg:.2f} deg"
                    print(
                        f"{pair.original_ms:12.1f}  {pair.ours_ms:10.2f}  {pair.ratio:7.1f}  "
                        f"{apart if pair.apart_m == pair.apart_m else '-':>17}  {pair.what}"
                    )
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0
