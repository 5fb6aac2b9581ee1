"""The approximate index of global descriptors that a large map carries.

An inverted file with product quantization (Jegou, Douze and Schmid, 2011), by faiss: about a
fourth of a byte a number instead of four, and a small part of them looked at.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

EXACT = 20_000
"""References up to which every descriptor is compared: about a millisecond."""

NUMBERS_A_BYTE = 4
"""Of a descriptor, at least, that share one in the index."""

TRAINED_ON = 64
"""Descriptors a list of the inverted file that it is trained on."""


def faiss() -> ModuleType | None:
    """The library, or None where it is not installed (`pip install 'pixloc_ros[faiss]'`)."""
    try:
        import faiss as library
    except ImportError:
        return None
    return library


def centred(descriptors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Descriptors (n, D) without what the map's have in common, unit norm, float32."""
    own = descriptors - mean
    norm = np.linalg.norm(own, axis=-1, keepdims=True)
    return (own / np.maximum(norm, 1e-12)).astype(np.float32)


def make_index(descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(serialized index, mean (D,)) of descriptors (R, D); None where none is needed, or no faiss.

    The same descriptors give the same index.
    """
    count, width = descriptors.shape
    library = faiss()
    if count <= EXACT or library is None:
        return None
    mean = descriptors.mean(0, dtype=np.float64).astype(np.float32)
    lists = 1 << round(np.log2(4 * np.sqrt(count)))
    most = max(width // NUMBERS_A_BYTE, 1)
    parts = next(m for m in range(most, 0, -1) if width % m == 0)
    index = library.index_factory(width, f"IVF{lists},PQ{parts}", library.METRIC_INNER_PRODUCT)
    chosen = np.random.default_rng(0).permutation(count)[: TRAINED_ON * lists]
    index.train(centred(descriptors[np.sort(chosen)], mean))
    for first in range(0, count, 2**16):
        index.add(centred(descriptors[first : first + 2**16], mean))
    index.nprobe = max(lists // 32, 8)
    return library.serialize_index(index), mean
