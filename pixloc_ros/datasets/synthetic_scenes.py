"""Procedural places made of boxes: rooms, streets, yards and walls, with cameras that look there.

Everything about a scene is drawn from its own random generator, so that a scene depends on its
seed alone and not on the batch or the machine that renders it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.datasets.raycast import Boxes
from pixloc_ros.datasets.scene_kinds import KINDS
from pixloc_ros.datasets.scene_kinds.boxes import MAX_BOXES, SceneBoxes
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose

OCCLUDERS_PER_VIEW = 1


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


def _views(
    kind: str, size: np.ndarray, count: int, random: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Rotation, translation, eye and target of cameras that overlap with the first one."""
    eye, target = KINDS[kind].gaze(size, random)
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
            at = KINDS[kind].keep(at, size, reach)
        turn = random.uniform(-0.9, 0.9) if held else random.normal(0, math.radians(4.0))
        views.append((*_looking_at(at, to, upright + turn), at, to))
    return views


def _looks(
    layout: SceneBoxes, textures: int, random: np.random.Generator
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
    layout = SceneBoxes()
    size = KINDS[kind].place(layout, random)
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
