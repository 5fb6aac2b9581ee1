"""`export`: the network as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence

from pixloc_ros.cli.options import Parser, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.features import open_network
from pixloc_ros.features.onnx import export_onnx


def make_parser() -> Parser:
    parser = Parser("export", "Write the network as ONNX, and check it against torch.")
    parser.add_argument("--output", required=True, metavar="FILE.onnx")
    parser.add_argument("--weights", metavar="FILE", help="(default: the compact network)")
    parser.add_argument(
        "--size", default="640x480", metavar="WxH", help="of the images (default 640x480)"
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    require_outputs([given.output], [given.weights])
    width, cross, height = given.size.partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise InputError(f"--size {given.size}: expected a width and a height, as 640x480")
    network = open_network(given.weights)
    worst = export_onnx(network, given.output, int(width), int(height))
    print(
        f"{network.architecture} for {given.size} images, {worst:.1g} from torch -> {given.output}"
    )
    return 0
