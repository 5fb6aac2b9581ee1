"""Localize many images, each with what is known of it, and count the reasons of refusals.

python examples/localize_batch.py place.pixmap.h5 images queries_with_intrinsics.txt
"""

import sys
from collections import Counter
from pathlib import Path

from pixloc_ros import Localizer, PixMap, Prior, open_network, read_image
from pixloc_ros.datasets import read_queries


def main(map_file: str, images: str, queries: str) -> None:
    reasons: Counter[str] = Counter()
    with PixMap(map_file) as pixmap:
        localizer = Localizer(pixmap, open_network(None))
        prior = None
        for name, camera in read_queries(queries).items():
            result = localizer.localize(read_image(Path(images) / name), camera, prior)
            reasons[result.status.value] += 1
            # consecutive images are taken near each other: start where the last one was
            prior = Prior(result.cam_from_map) if result.ok else None
            position = result.cam_from_map.inverse().translation
            print(name, " ".join(f"{v:.3f}" for v in position.tolist()) if result.ok else "-")
    print(dict(reasons))


if __name__ == "__main__":
    main(*sys.argv[1:])
