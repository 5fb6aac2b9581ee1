"""Procedural places made of boxes: rooms, streets, yards and walls, with cameras that look there.

Everything about a scene is drawn from its own random generator, so that a scene depends on its
seed alone and not on the batch or the machine that renders it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.datasets.raycast import Boxes
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose

MAX_BOXES = 52
OCCLUDERS_PER_VIEW = 1
KINDS = ("room", "street", "yard", "wall")


@dataclass
class _SceneBoxes:
    """Boxes while they are being placed; each (3,) or a number a box."""

    centre: list[np.ndarray] = field(default_factory=list)
    half: list[np.ndarray] = field(default_factory=list)
    rotvec: list[np.ndarray] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    look: list[int] = field(default_factory=list)
    """Boxes with the same look share their textures; -1 is a look of its own."""
    contrast: list[float] = field(default_factory=list)

    def add(
        self,
        centre: Sequence[float] | np.ndarray,
        size: Sequence[float] | np.ndarray,
        yaw: float = 0.0,
        tilt: Sequence[float] | np.ndarray = (0.0, 0.0),
        inside: bool = False,
        look: int = -1,
        contrast: float = 1.0,
    ) -> None:
        if len(self.centre) < MAX_BOXES:
            self.centre.append(np.array(centre, float))
            self.half.append(np.array(size, float) / 2)
            self.rotvec.append(np.array([*tilt, yaw], float))
            self.inside.append(inside)
            self.look.append(look)
            self.contrast.append(contrast)


@dataclass(frozen=True)
class SceneBatch:
    """S scenes: boxes, V camera poses each, who sees what, and the light.

    cam_from_scene: (S, V). visible: (S, V, K) bool. lamp: (S, V, 3) position. ambient,
    diffuse: (S, V, 3) colour factors. gloss: (S, K) share of mirrored lamp light. focal:
    (S, V) in image widths. shadows: (S, V) share of the lamp's light that boxes block.
    """

    boxes: Boxes
    cam_from_scene: Pose
    visible: Tensor
    lamp: Tensor
    ambient: Tensor
    diffuse: Tensor
    gloss: Tensor
    focal: Tensor
    shadows: Tensor


def _room(layout: _SceneBoxes, random: np.random.Generator) -> np.ndarray:
    length, width = random.uniform(3.2, 9.0), random.uniform(3.0, 7.0)
    height = random.uniform(2.3, 3.4)
    size = np.array([length, width, height])
    layout.add([0, 0, height / 2], size, inside=True)
    tops = []
    for _ in range(random.integers(5, 11)):
        body = random.uniform([0.4, 0.3, 0.35], [1.7, 0.8, 2.1])
        side = random.integers(4)
        along = random.uniform(-0.5, 0.5) * (length if side < 2 else width)
        across = (0.5 * (width if side < 2 else length) - body[1] / 2) * (1 if side % 2 else -1)
        place = [along, across] if side < 2 else [across, along]
        turned = (0 if side < 2 else math.pi / 2) + random.normal(0, 0.08)
        if random.random() < 0.2:  # in the room, not along a wall
            place = list(random.uniform(-0.3, 0.3, 2) * size[:2])
            turned, body[2] = random.uniform(0, math.pi), min(body[2], 0.9)
        layout.add([*place, body[2] / 2], body, turned)
        tops.append((place[0], place[1], body[2]))
    look = 1
    for _ in range(random.integers(0, 3)):  # tables, thin legs and all
        x, y = random.uniform(-0.3, 0.3, 2) * size[:2]
        w, d, h = random.uniform([0.8, 0.5, 0.6], [1.6, 0.9, 0.9])
        yaw = random.uniform(0, math.pi)
        layout.add([x, y, h], [w, d, 0.04], yaw)
        c, s = math.cos(yaw), math.sin(yaw)
        for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            a, b = sx * (w / 2 - 0.04), sy * (d / 2 - 0.04)
            leg = [x + c * a - s * b, y + s * a + c * b, h / 2]
            layout.add(leg, [0.05, 0.05, h], yaw, look=look)
        look += 1
        tops.append((x, y, h))
    repeated = random.random() < 0.25  # the same picture many times
    for _ in range(random.integers(5, 12)):  # pictures, doors, windows
        side = random.integers(4)
        w, h = random.uniform(0.25, 1.3), random.uniform(0.25, 1.2)
        along = random.uniform(-0.45, 0.45) * (length if side < 2 else width)
        across = 0.5 * (width if side < 2 else length) * (1 if side % 2 else -1)
        place = [along, across] if side < 2 else [across, along]
        z = random.uniform(h / 2, height - h / 2) if height > h else height / 2
        thick = random.uniform(0.02, 0.1)
        layout.add(
            [*place, z],
            [w, thick, h],
            0 if side < 2 else math.pi / 2,
            look=90 if repeated else -1,
        )
    for _ in range(random.integers(6, 13)):
        body = random.uniform(0.06, 0.4, 3)
        x, y, z = tops[random.integers(len(tops))]
        if random.random() < 0.25:
            (x, y), z = random.uniform(-0.45, 0.45, 2) * size[:2], 0.0
        offset = random.uniform(-0.4, 0.4, 2)
        layout.add(
            [x + offset[0], y + offset[1], z + body[2] / 2],
            body,
            random.uniform(0, math.pi),
            random.normal(0, 0.1, 2),
        )
    if random.random() < 0.4:  # a hanging lamp
        x, y = random.uniform(-0.3, 0.3, 2) * size[:2]
        layout.add([x, y, height - 0.3], [0.03, 0.03, 0.6])
        layout.add([x, y, height - 0.65], random.uniform(0.15, 0.45, 3))
    return size


def _street(layout: _SceneBoxes, random: np.random.Generator) -> np.ndarray:
    half = random.uniform(4.0, 11.0)
    layout.add([0, 0, 60], [300, 300, 140], inside=True, contrast=random.uniform(0, 0.4))
    layout.add([0, 0, -0.1], [200, 200, 0.2])
    look = 1
    for side in (-1, 1):
        x = -random.uniform(12, 18)
        while x < 35:
            w, h, d = random.uniform(5, 15), random.uniform(4, 15), 6.0
            y = side * (half + d / 2 + random.uniform(0, 2.0))
            layout.add([x + w / 2, y, h / 2], [w, d, h])
            front = y - side * d / 2
            if random.random() < 0.7:  # windows in relief, all alike
                columns, rows = int(random.integers(2, 4)), int(random.integers(1, 3))
                size = random.uniform([0.8, 0.05, 1.0], [1.8, 0.5, 2.2])
                for i in range(columns):
                    for j in range(rows):
                        at = [x + w * (i + 0.5) / columns, front, 1.8 + j * h / (rows + 1)]
                        layout.add(at, size, look=look)
                look += 1
            x += w + (random.uniform(0, 4) if random.random() < 0.4 else 0)
    if random.random() < 0.6:  # the street ends
        layout.add([random.uniform(25, 60), 0, 6], [8, 60, 12])
    for _ in range(random.integers(1, 5)):  # poles
        at = [random.uniform(0, 25), random.choice([-1, 1]) * (half - random.uniform(0.3, 2))]
        layout.add([*at, 2.5], [*([random.uniform(0.08, 0.25)] * 2), 5.0])
    for _ in range(random.integers(0, 4)):  # cars
        at = [random.uniform(4, 25), random.choice([-1, 1]) * (half - random.uniform(1, 2.5))]
        layout.add([*at, 0.6], [4.2, 1.8, 0.9])
        layout.add([*at, 1.25], [2.2, 1.6, 0.5])
    for _ in range(random.integers(0, 3)):  # trees
        at = [random.uniform(3, 30), random.choice([-1, 1]) * (half + random.uniform(-1.5, 0))]
        crown = random.uniform([1.5, 1.5, 2], [3.5, 3.5, 4])
        layout.add([*at, 1.2], [0.3, 0.3, 2.4])
        layout.add([*at, 2 + crown[2] / 2], crown, random.uniform(0, 3), random.normal(0, 0.2, 2))
    return np.array([60.0, 2 * half, 10.0])


def _yard(layout: _SceneBoxes, random: np.random.Generator) -> np.ndarray:
    outer = random.uniform(6, 40)
    height = random.uniform(3, 14)
    layout.add([0, 0, height / 2], [outer, outer * random.uniform(0.6, 1), height], inside=True)
    radius = random.uniform(0.3, 1.2)
    for _ in range(random.integers(10, 26)):  # a heap of things to walk around
        body = random.uniform(0.1, 0.6, 3) * radius
        x, y = random.normal(0, 0.45 * radius, 2)
        z = body[2] / 2 + random.uniform(0, 1.2 * radius) * (random.random() < 0.5)
        layout.add([x, y, z], body, random.uniform(0, 3), random.normal(0, 0.15, 2))
    for _ in range(random.integers(2, 8)):  # and some farther off
        body = random.uniform([0.3, 0.3, 0.4], [2.0, 2.0, 2.5])
        angle, far = random.uniform(0, 2 * math.pi), random.uniform(2.0, 0.45 * outer + 1)
        layout.add(
            [far * math.cos(angle), far * math.sin(angle), body[2] / 2],
            body,
            random.uniform(0, 3),
        )
    return np.array([outer, outer, radius])


def _wall(layout: _SceneBoxes, random: np.random.Generator) -> np.ndarray:
    """Photographs side by side on one plane: their views are homographies of each other."""
    layout.add([0, 0, 10], [60, 60, 24], inside=True, contrast=random.uniform(0, 0.4))
    columns, rows = int(random.integers(1, 4)), int(random.integers(1, 3))
    wide, high = random.uniform(1.0, 2.5), random.uniform(1.0, 2.0)
    for i in range(columns):
        for j in range(rows):
            at = [(i - (columns - 1) / 2) * wide, 0.05, (j + 0.5) * high]
            layout.add(at, [wide, 0.1, high])
    return np.array([columns * wide, 4.0, rows * high])


def _looking_at(eye: np.ndarray, target: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """cam_from_scene as rotation and translation; z forward, y down."""
    z = target - eye
    z = z / max(np.linalg.norm(z), 1e-6)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / max(np.linalg.norm(x), 1e-6)
    y = np.cross(z, x)
    c, s = math.cos(roll), math.sin(roll)
    rotation = np.stack([c * x + s * y, c * y - s * x, z])
    return rotation, -rotation @ eye


def _gaze(kind: str, size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Where a first camera stands and what it looks at."""
    if kind == "room":
        eye = np.append(random.uniform(-0.32, 0.32, 2) * size[:2], random.uniform(0.7, 1.9))
        angle, reach = random.uniform(0, 2 * math.pi), 0.48 * min(size[:2])
        target = np.array(
            [reach * math.cos(angle), reach * math.sin(angle), random.uniform(0.4, 1.8)]
        )
    elif kind == "street":
        eye = np.array([0.0, random.uniform(-0.25, 0.25) * size[1], random.uniform(1.2, 2.2)])
        aside = random.normal(0, 0.1 if random.random() < 0.6 else 1.0)
        target = eye + np.array([20.0, 20.0 * aside, random.uniform(-1, 3)])
        target[1] = np.clip(target[1], -0.6 * size[1], 0.6 * size[1])
    elif kind == "wall":
        reach = max(size[0], size[2]) * random.uniform(0.5, 1.1)
        eye = np.array([random.normal(0, 0.3 * reach), -reach, size[2] * random.uniform(0.2, 1)])
        target = np.array([random.normal(0, 0.15), 0.0, 0.5]) * [size[0], 1, size[2]]
    else:
        angle, away = random.uniform(0, 2 * math.pi), size[2] * random.uniform(1.8, 4.0)
        away = min(away, 0.4 * size[0])
        eye = np.array(
            [away * math.cos(angle), away * math.sin(angle), size[2] * random.uniform(0.3, 1.8)]
        )
        target = np.append(random.normal(0, 0.2 * size[2], 2), 0.4 * size[2])
    return eye, target


def _views(
    kind: str, size: np.ndarray, count: int, random: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Rotation, translation, eye and target of cameras that overlap with the first one."""
    eye, target = _gaze(kind, size, random)
    reach = float(np.linalg.norm(target - eye))
    # some cameras are mounted or held on their side; others are tilted from view to view
    upright = random.uniform(-math.pi, math.pi) if random.random() < 0.25 else 0.0
    held = random.random() < 0.3
    views = []
    for number in range(count):
        at, to = eye, target
        if number:
            # from a small step to a walk around: as far as half of the distance looked at
            step = random.uniform(0.03, 0.55) * reach
            way = random.normal(0, 1, 3) * [1.0, 1.0, 0.3]
            if kind == "street" and random.random() < 0.6:
                way = np.array([1.0, random.normal(0, 0.15), 0.02]) * random.choice([-1, 1])
            at = eye + step * way / np.linalg.norm(way)
            to = target + random.normal(0, 0.16, 3) * [1, 1, 0.6] * reach
            at[2] = max(at[2], 0.15 * size[2] if kind == "yard" else 0.5)
            if kind == "room":
                at[:2] = np.clip(at[:2], -0.4 * size[:2], 0.4 * size[:2])
                at[2] = min(at[2], 0.85 * size[2])
            if kind == "wall":
                at[1] = min(at[1], -0.3 * reach)
        turn = random.uniform(-0.9, 0.9) if held else random.normal(0, math.radians(4.0))
        views.append((*_looking_at(at, to, upright + turn), at, to))
    return views


def _looks(
    layout: _SceneBoxes, textures: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Texture, window, gain and bias of the faces of all boxes: (K, 6, ...)."""
    count = len(layout.centre)
    drawn = (count, 6)
    texture = random.integers(0, textures, drawn)
    # large faces repeat their texture, small ones show a part of it
    largest = 2 * np.array(layout.half).max(1)[:, None]
    repeats = np.exp(random.normal(0, 0.5, drawn)) * np.clip((largest / 2.0) ** 0.7, 0.25, 12)
    mirror = random.choice([-1.0, 1.0], (*drawn, 2))
    shape = np.exp(random.normal(0, 0.2, drawn))
    extent = np.stack([repeats * shape, repeats / shape], -1) * mirror
    window = np.concatenate([random.uniform(0, 2, (*drawn, 2)), extent], -1)
    gain = random.uniform(0.45, 1.15, (*drawn, 1)) * np.exp(random.normal(0, 0.08, (*drawn, 3)))
    dull = random.random(drawn) < 0.33  # a third of all surfaces has little contrast
    gain = np.where(dull[..., None], gain * random.uniform(0.08, 0.4, (*drawn, 1)), gain)
    gain = gain * np.array(layout.contrast)[:, None, None]
    grey = random.uniform(50, 205, (*drawn, 1))
    tone = np.clip(grey + random.normal(0, 18, (*drawn, 3)), 10, 245)
    bias = np.where(dull[..., None], tone, 0.5 * tone + 64) - gain * 118
    first: dict[int, int] = {}
    for k, look in enumerate(layout.look):
        if look >= 0:
            source = first.setdefault(look, k)
            for array in (texture, window, gain, bias):
                array[k] = array[source]
    return texture, window, gain, bias


def _light(
    kind: str, size: np.ndarray, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lamp positions (V, 3), ambient and diffuse colours (V, 3), shadow strength (V,)."""

    def one() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        if kind == "room":
            lamp = np.append(random.uniform(-0.35, 0.35, 2) * size[:2], 0.93 * size[2])
        else:
            angle = random.uniform(0, 2 * math.pi)
            far = size[2] * 4 if kind == "yard" else 60.0
            lamp = np.array([far * math.cos(angle), far * math.sin(angle), far])
        tint = np.exp(random.normal(0, 0.08, 3))
        ambient = random.uniform(0.35, 0.8)
        dark = random.uniform(0.25, 0.6) if random.random() < 0.12 else 1.0  # by night
        warm = tint * [1.1, 1.0, 0.85] if dark < 1 else tint
        return (
            lamp,
            ambient * tint * dark,
            random.uniform(0.3, 0.8) * warm * max(dark, 0.5),
            random.uniform(0.0, 0.9),
        )

    shared = one()
    changes = random.random() < 0.5  # another time of day in each view
    lights = [one() if changes and random.random() < 0.7 else shared for _ in range(count)]
    lamp, ambient, diffuse, shadows = (np.stack(v) for v in zip(*lights, strict=True))
    return lamp, ambient, diffuse, shadows


def make_scene(
    seed: Sequence[int], views: int, textures: int, kinds: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays of one scene, as `SceneBatch` stacks them."""
    random = np.random.default_rng(list(seed))
    kind = kinds[int(random.integers(len(kinds)))]
    layout = _SceneBoxes()
    size = {"room": _room, "street": _street, "yard": _yard, "wall": _wall}[kind](layout, random)
    cameras = _views(kind, size, views, random)
    fixed = len(layout.centre)
    total = MAX_BOXES + views * OCCLUDERS_PER_VIEW
    visible = np.zeros((views, total), bool)
    visible[:, :fixed] = True
    for v, (*_, eye, target) in enumerate(cameras):  # who walks through one view alone
        here, reach = random.uniform(0.25, 0.6), np.linalg.norm(target - eye)
        at = eye + here * (target - eye) + random.normal(0, 0.12, 3) * here * reach
        body = random.uniform(0.08, 0.22, 3) * reach * here * [1, 1, 2]
        shown = random.random() < 0.35
        while len(layout.centre) < MAX_BOXES:  # scenes of a batch have equally many boxes
            layout.add([0, 0, -1e3], [0.1] * 3)
        layout.centre.append(at)
        layout.half.append(body / 2)
        layout.rotvec.append(np.array([*random.normal(0, 0.2, 2), random.uniform(0, 3)]))
        layout.inside.append(False)
        layout.look.append(-1)
        layout.contrast.append(1.0)
        visible[v, MAX_BOXES + v] = shown
    texture, window, gain, bias = _looks(layout, textures, random)
    lamp, ambient, diffuse, shadows = _light(kind, size, views, random)
    glossy = random.random(total) < 0.2
    focal = random.uniform(0.65, 1.15)
    return {
        "centre": np.array(layout.centre),
        "half": np.array(layout.half),
        "rotvec": np.array(layout.rotvec),
        "inside": np.array(layout.inside),
        "texture": texture,
        "window": window,
        "gain": gain,
        "bias": bias,
        "rotation": np.stack([c[0] for c in cameras]),
        "translation": np.stack([c[1] for c in cameras]),
        "visible": visible,
        "lamp": lamp,
        "ambient": ambient,
        "diffuse": diffuse,
        "shadows": shadows,
        "gloss": np.where(glossy, random.uniform(0.1, 0.7, total), 0.0),
        "focal": np.full(views, focal) * np.exp(random.normal(0, 0.08, views)),
    }


def stack_scenes(scenes: Sequence[dict[str, np.ndarray]]) -> SceneBatch:
    """Scenes of `make_scene` stacked, on the CPU."""

    def stack(name: str) -> Tensor:
        stacked = torch.from_numpy(np.stack([s[name] for s in scenes]))
        return stacked.float() if stacked.is_floating_point() else stacked

    rotvec = stack("rotvec")
    boxes = Boxes(
        stack("centre"),
        stack("half"),
        Pose.from_rotvec(rotvec, torch.zeros_like(rotvec)).rotation,
        stack("inside"),
        stack("texture"),
        stack("window"),
        stack("gain"),
        stack("bias"),
    )
    names = ("visible", "lamp", "ambient", "diffuse", "gloss", "focal", "shadows")
    pose = Pose(stack("rotation"), stack("translation"))
    return SceneBatch(boxes, pose, **{n: stack(n) for n in names})


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise InputError for a kind of scene that does not exist, or none at all."""
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        named = ", ".join(unknown) or "none"
        raise InputError(f"kinds of scenes: {named}; known: {', '.join(KINDS)}")
