"""Say where one image was taken.

python examples/localize_image.py place.pixmap.h5 image.jpg PINHOLE 640 480 520 520 320 240
"""

import argparse

import torch

from pixloc_ros import Camera, Localizer, PixMap, open_network, read_image


def main() -> None:
    parser = argparse.ArgumentParser(description="Say where one image was taken.")
    parser.add_argument("map", help="map file (.pixmap.h5)")
    parser.add_argument("image")
    parser.add_argument("camera", nargs="+", help="MODEL width height params..., as COLMAP has it")
    given = parser.parse_args()
    model, width, height, *params = given.camera
    camera = Camera.from_colmap(model, int(width), int(height), [float(p) for p in params])
    with PixMap(given.map) as pixmap:
        result = Localizer(pixmap, open_network(None)).localize(read_image(given.image), camera)
    print(f"{result.status.value}: {result.reason}")
    if result.ok:
        position = result.cam_from_map.inverse().translation
        sigma = result.covariance[:3, :3].diagonal().sum().sqrt()
        turn = torch.rad2deg(result.covariance[3:, 3:].diagonal().sum().sqrt())
        print("the camera is at", " ".join(f"{v:.3f}" for v in position.tolist()))
        print(f"standard deviation {sigma:.4f} m, {turn:.3f} deg")


if __name__ == "__main__":
    main()
