"""Activation checkpointing (arXiv:1604.06174): blocks that keep their input alone until the backward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Recomputable(nn.Module):
    """A block [B, C, H, W] -> [B, C', H', W'] that, with `recomputes`, is computed again for its gradient.

    It then keeps its input instead of all that its gradient needs. Nothing else changes: BatchNorm's running
    statistics see every batch once. Without gradients it is computed once in any case.
    """

    recomputes = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.recomputes and torch.is_grad_enabled()):
            return self.compute(x)
        again: Any = lambda: (nullcontext(), left_statistics(self))  # noqa: E731
        # No block draws numbers, so that no generator's state has to be kept.
        kept: Tensor = checkpoint(
            self.compute, x, use_reentrant=False, preserve_rng_state=False, context_fn=again
        )
        return kept

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """What the block computes."""


def recompute_activations(network: nn.Module) -> None:
    """Let every outermost Recomputable of a network keep its input alone, in place."""
    for child in network.children():
        if isinstance(child, Recomputable):
            child.recomputes = True
        else:
            recompute_activations(child)


@contextmanager
def left_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of every BatchNorm in a block as they are while it is computed.

    It gets copies of them meanwhile, since autograd keeps them too, and as many tensors as the first time.
    """
    kept = [(norm, name, norm.get_buffer(name)) for norm in norms_of(block) for name in STATISTICS]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)


def norms_of(block: nn.Module) -> list[nn.Module]:
    """The BatchNorms of a block, SyncBN's too."""
    return [each for each in block.modules() if isinstance(each, _BatchNorm)]
