"""The tensor-like behaviour that `Pose` and `Camera` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self


class TensorFields:
    """Mixin of frozen dataclasses whose fields are tensors with the same leading batch shape.

    `_event_dims` names every tensor field and how many trailing dimensions belong to one
    element; all operations act on the batch dimensions before those.
    """

    _event_dims: ClassVar[dict[str, int]]

    def _map(self, function: Callable[[Tensor, int], Tensor]) -> Self:
        changed = {n: function(getattr(self, n), dims) for n, dims in self._event_dims.items()}
        return replace(self, **changed)  # type: ignore[type-var]

    def _first(self) -> tuple[Tensor, int]:
        name, dims = next(iter(self._event_dims.items()))
        return getattr(self, name), dims

    @property
    def shape(self) -> torch.Size:
        """Batch shape."""
        tensor, dims = self._first()
        return tensor.shape[: tensor.dim() - dims]

    @property
    def device(self) -> torch.device:
        return self._first()[0].device

    @property
    def dtype(self) -> torch.dtype:
        return self._first()[0].dtype

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{type(self).__name__} without a batch dimension has no length")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Self:
        parts = index if isinstance(index, tuple) else (index,)

        def select(tensor: Tensor, dims: int) -> Tensor:
            if any(part is Ellipsis for part in parts):
                return tensor[(*parts, *([slice(None)] * dims))]
            if sum(part is not None for part in parts) > tensor.dim() - dims:
                raise IndexError(f"too many indices for batch shape {tuple(self.shape)}")
            return tensor[parts]

        return self._map(select)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast every field, like `torch.Tensor.to`."""
        return self._map(lambda tensor, _: tensor.to(*args, **kwargs))

    def detach(self) -> Self:
        return self._map(lambda tensor, _: tensor.detach())

    def expand(self, *shape: int) -> Self:
        """Expand the batch shape, like `torch.Tensor.expand`."""
        return self._map(lambda t, dims: t.expand(*shape, *t.shape[t.dim() - dims :]))

    def reshape(self, *shape: int) -> Self:
        """Reshape the batch dimensions."""
        return self._map(lambda t, dims: t.reshape(*shape, *t.shape[t.dim() - dims :]))

    @classmethod
    def _join(cls, items: Sequence[Self], function: Callable[[list[Tensor]], Tensor]) -> Self:
        if not items:
            raise ValueError(f"cannot join an empty list of {cls.__name__}")
        joined = {n: function([getattr(item, n) for item in items]) for n in cls._event_dims}
        return replace(items[0], **joined)  # type: ignore[type-var]

    @classmethod
    def stack(cls, items: Sequence[Self]) -> Self:
        """Stack along a new first batch dimension."""
        return cls._join(items, torch.stack)

    @classmethod
    def cat(cls, items: Sequence[Self]) -> Self:
        """Concatenate along the first batch dimension."""
        return cls._join(items, torch.cat)
