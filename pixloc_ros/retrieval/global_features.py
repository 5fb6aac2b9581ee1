"""Global descriptors that another network made, as hloc stores them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.errors import InputError
from pixloc_ros.retrieval.index import DescriptorIndex


class RetrievalError(InputError):
    """A retrieval file that cannot be used, with the reason in one line."""


def rank_by_global_features(
    path: str | os.PathLike[str],
    references: Sequence[str],
    queries: Sequence[str],
    count: int,
) -> dict[str, list[str]]:
    """For each query its `count` most similar references, best first, as a pairs file lists them.

    The file holds the descriptors of all of them. Raises RetrievalError.
    """
    index = DescriptorIndex(read_global_features(path, references))
    ranked = {}
    for query, descriptor in zip(queries, read_global_features(path, queries), strict=True):
        found, _ = index.search(descriptor, count)
        ranked[query] = [references[i] for i in found]
    return ranked


def read_global_features(path: str | os.PathLike[str], names: Sequence[str]) -> Tensor:
    """Descriptors (N, D) float32 of the named images from hloc's HDF5 file.

    hloc stores a group per image with the dataset `global_descriptor`.
    """
    path = Path(path)
    if not path.is_file():
        raise RetrievalError(f"{path}: no such file of global features")
    try:
        with h5py.File(path, "r") as file:
            vectors = [_vector(file, name, path) for name in names]
    except OSError:
        raise RetrievalError(f"{path}: truncated, or not an HDF5 file") from None
    if len({v.shape for v in vectors}) != 1 or vectors[0].ndim != 1:
        raise RetrievalError(f"{path}: the global descriptors differ in shape")
    stacked = np.stack(vectors)
    if not np.isfinite(stacked).all():
        raise RetrievalError(f"{path}: holds descriptors that are not finite")
    return torch.from_numpy(stacked)


def _vector(file: h5py.File, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(file[name]["global_descriptor"], np.float32)
    except (KeyError, ValueError, TypeError):
        raise RetrievalError(f"{path}: lacks the global descriptor of {name}") from None
