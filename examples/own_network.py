"""Localize with a network of one's own: here two convolutions that nobody has trained.

A network says what its levels are, and computes them. Everything else, such as maps, alignment,
gates and the node, works with whatever it gives.

python examples/own_network.py sparse images place.pixmap.h5 QUERY.jpg
"""

import sys

import torch
from torch import Tensor, nn

from pixloc_ros import FeatureNetwork, Localizer, PixMap, build_map, read_colmap, read_image
from pixloc_ros.features.network import NetworkOutput


class Edges(FeatureNetwork):
    """Random filters on two scales; enough where an image is near to a reference."""

    architecture = "edges"
    strides = (2, 8)
    offsets = (0.5, 3.5)  # of the centre of a cell's window, in pixels
    channels = (32, 64)
    speeds = {"accurate": ((320, 1), (640, 1), (640, 0))}
    area_resize = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv2d(3, 32, 4, stride=2, padding=1)
        self.coarse = nn.Conv2d(32, 64, 4, stride=4)

    def forward(self, images: Tensor, finest: int = 0) -> NetworkOutput:
        height, width = images.shape[-2:]
        padded = nn.functional.pad(images, (0, -width % 8, 0, -height % 8))
        fine = torch.tanh(self.fine(padded - padded.mean((-2, -1), keepdim=True)))
        coarse = torch.tanh(self.coarse(fine))
        levels = (fine, coarse)
        return NetworkOutput(levels, tuple(torch.ones_like(x[:, 0]) for x in levels), coarse)

    def damping_parameters(self, level: int) -> Tensor:
        return torch.full((6,), -1.0)  # see pixloc_ros.alignment.damping


def main(model: str, images: str, output: str, query: str) -> None:
    network = Edges().eval()
    print(build_map(read_colmap(model), images, output, network))
    with PixMap(output) as pixmap:
        localizer = Localizer(pixmap, network)
        number = len(pixmap) // 2
        answer = localizer.localize(read_image(query), pixmap.camera(number))
        print(f"{answer.status.value}: {answer.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
