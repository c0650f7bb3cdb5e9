"""GPU memory without a GPU: code runs on tensors without data, whose bytes are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes; torch's CUDA allocator rounds every request up to a multiple of this (kMinBlockSize)

aten = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """While it is on, counts the storages that are alive: `live` bytes now, `peak` the most at once.

    Each storage counts once, in whole BLOCKs, from the operation that returns it until its last tensor is
    gone. What a single operation takes and gives back inside itself, like a convolution's workspace, is not
    seen.

    Without data some questions have no answer, so one is assumed: a truth value is true, any other number 0,
    and of a mask of a shape `marked(shape)` elements are set.
    """

    def __init__(self, marked: Callable[[torch.Size], int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._marked = marked
        self._sizes: dict[int, int] = {}  # by the identity of the storage, while it lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 0.0
        if func is aten.nonzero.default:
            result = args[0].new_zeros((self._marked(args[0].shape), args[0].dim()), dtype=torch.int64)
        elif func is aten.index.Tensor:
            result = func(args[0], self._indices(args[1]))
        else:
            result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    def leave_out(self, tensor: Tensor) -> None:
        """Do not count what this tensor holds: it lies elsewhere, as a batch does in the host's memory."""
        key = id(tensor.untyped_storage())
        self.live -= self._sizes[key]
        self._sizes[key] = 0

    def _indices(self, given: list[Tensor | None]) -> list[Tensor | None]:
        """Indices in which every mask has become one index for each of its dimensions."""
        indices: list[Tensor | None] = []
        for index in given:
            if index is None or index.dtype != torch.bool:
                indices.append(index)
            else:
                chosen = index.new_zeros(self._marked(index.shape), dtype=torch.int64)
                indices += [chosen] * index.dim()
        return indices

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._sizes:
            self._sizes[key] = -(-storage.nbytes() // BLOCK) * BLOCK
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


class LikeCuda(TorchFunctionMode):
    """Tensors without data are on the CPU, since backward on others needs a GPU: differences are corrected.

    Under autocast CUDA enlarges feature maps in float32 and joins maps of mixed type in one go; the CPU
    enlarges in half precision and copies before it joins. Also, torch cannot deepcopy a tensor without data.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__deepcopy__:
            return copied(args[0])
        if func is interpolate and torch.is_autocast_enabled("cpu"):
            return func(args[0].float(), *args[1:], **kwargs)
        if func is torch.cat:
            with torch.autocast("cpu", enabled=False):
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def copied(tensor: Tensor) -> Tensor:
    """A copy of a leaf, of the same kind."""
    copy = tensor.detach().clone()
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy


def everything(shape: torch.Size) -> int:
    """All elements of a mask: the most that it can mark."""
    return shape.numel()


@contextmanager
def counted(marked: Callable[[torch.Size], int] = everything) -> Iterator[LiveBytes]:
    """Within this, tensors have no data, take no memory and cost no arithmetic; LiveBytes counts their bytes.

    Every tensor must be made within it, on the CPU, and let go before its end. The figure is what
    `torch.cuda.max_memory_allocated` counts, but for the inside of operations (workspaces) and for blocks
    that the allocator does not split.
    """
    with FakeTensorMode(), LiveBytes(marked) as memory, LikeCuda():
        yield memory
