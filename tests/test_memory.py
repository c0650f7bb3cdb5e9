"""Predicted memory: bytes of living tensors, counted without data, against bytes worked out by hand."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from yolov9bench.nn.detector import Detector
from yolov9bench.profiling import box_counts, training_memory
from yolov9bench.profiling.box_counts import fullest
from yolov9bench.profiling.memory_tracker import LikeCuda, counted
from yolov9bench.profiling.training_memory import Workload
from yolov9bench.train.assigner import PAIRS_AT_ONCE
from yolov9bench.train.state import make_state
from yolov9bench.zoo import RECIPES, SPECS
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.specs import Head, Spec, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
WIDER = yolov8("wider", (16, 16, 32, 32, 32), (1, 1), Head("dense", 32, 32))
RECIPE: Recipe = RECIPES["yolov8-n"]


def test_three_layers_with_momentum_are_predicted_to_the_byte() -> None:
    """Worked out by hand, for a batch of 64 in float32: layers 128 -> 256 -> 512 -> 64 without bias.

    The peak lies in the backward pass of the second layer. Alive are then: three weights and their momentum,
    the input, the first activation (for the gradient of the second weight), the gradient of the third weight,
    of the second weight and of both their inputs, and two scalars, the loss and its gradient. The third
    layer's output is gone, as nothing needs it, and so is the second activation.
    """
    with counted() as memory:
        layers = nn.Sequential(
            *(nn.Linear(*widths, bias=False) for widths in ((128, 256), (256, 512), (512, 64)))
        )
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9)
        inputs = torch.empty(64, 128)
        for _ in range(2):
            loss = layers(inputs).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            del loss
        live = memory.live
        del layers, optimizer, inputs
    weights = 131_072 + 524_288 + 131_072
    activations = 32_768 + 65_536
    gradients = 131_072 + 524_288 + 131_072 + 65_536
    assert memory.peak == 2 * weights + activations + gradients + 2 * 512
    assert live == 2 * weights + 32_768
    assert memory.live == 0


def test_views_and_work_in_place_take_nothing_and_what_is_gone_counts_no_more() -> None:
    with counted() as memory:
        whole = torch.empty(1000)  # 4,000 bytes: eight blocks of 512
        assert memory.live == 4096
        part = whole[:10].view(2, 5)
        part.add_(1)
        assert memory.live == 4096
        del whole
        assert memory.live == 4096  # the view still holds all of it
        del part
        assert (memory.live, memory.peak) == (0, 4096)
        one = torch.empty(1)
        assert memory.live == 512
        memory.leave_out(one)
        assert memory.live == 0
        del one
        assert memory.live == 0


def test_questions_to_the_data_get_the_assumed_answers() -> None:
    with counted(lambda shape: 3 * len(shape)) as memory:
        values = torch.empty(4, 5)
        assert (values > 0).all()
        assert values.sum().item() == 0.0
        assert (values > 0).nonzero().shape == (6, 2)
        assert values[values > 0].shape == (6,)
        assert values[values[:, 0] > 0, 1:].shape == (3, 4)
        assert values[torch.tensor([1, 2])].shape == (2, 5)
        del values
    assert memory.live == 0
    with counted():
        mask = torch.empty(4, 5, dtype=torch.bool)
        assert mask.nonzero().shape == (20, 2)


class Results(TorchDispatchMode):
    """The results of every operation but normalisation, which the devices call by different names."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[tuple[str, tuple[int, ...], torch.dtype]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and "norm" not in func.__name__ and leaf.numel():
                self.seen[func.__name__, tuple(leaf.shape), leaf.dtype] += 1
        return result


@pytest.mark.parametrize("name", ["yolov8-n", "yolov9-c"])
def test_the_forward_pass_is_that_of_cuda(name: str) -> None:
    """Without a GPU the forward pass on CUDA can be had without data, and only that: it is the witness."""
    seen = {}
    for device in ("cuda", "cpu"):
        with FakeTensorMode():
            with torch.device(device):
                detector = Detector(SPECS[name], 80)
            images = torch.empty(2, 3, 64, 64, device=device)
            torch.set_autocast_dtype(device, torch.float16)
            torch.set_autocast_enabled(device, True)
            try:
                with Results() as results, LikeCuda():
                    detector(images)
            finally:
                torch.set_autocast_enabled(device, False)
                torch.clear_autocast_cache()
        seen[device] = results.seen
    assert sum(seen["cuda"].values()) > 250
    assert seen["cpu"] == seen["cuda"]


@cache
@cache
def predicted(
    spec: Spec = SMALL, size: int = 64, batch: int = 8, boxes: int = 10, recipe: Recipe = RECIPE
) -> int:
    return training_memory.predict_training_step(Workload(spec, recipe, size, batch, boxes))


@pytest.mark.accuracy
@pytest.mark.slow(20)
def test_a_wider_network_larger_images_more_of_them_and_more_boxes_take_more() -> None:
    usual = predicted()
    assert predicted(spec=WIDER) > usual
    assert predicted(size=96) > usual
    assert predicted(batch=16) > usual
    assert predicted(boxes=training_memory.CROWDED) > usual


@pytest.mark.accuracy
def test_mixed_precision_saves_memory_and_gradients_that_wait_take_some() -> None:
    """8 images on each of 8 GPUs make a step; on one GPU 8 iterations do."""
    usual = predicted()
    assert predicted(recipe=RECIPE.varied(run={"amp": False})) > 1.3 * usual
    waiting = predicted(recipe=RECIPE.varied(run={"gpus": 1}))
    parameters = 4 * sum(parameter.numel() for parameter in Detector(SMALL, 80).parameters())
    assert usual + 0.9 * parameters < waiting < usual + 1.5 * parameters


def middle_of_the_fullest(counts: np.ndarray[Any, Any], images: int) -> float:
    """The middle one, over batches, of the most boxes in an image; counts [batches * images] of mosaics."""
    return float(np.median(counts.reshape(-1, images).max(axis=1)))


@pytest.mark.parametrize("images", [1, 16, 64])
def test_the_fullest_image_agrees_with_drawn_batches(images: int) -> None:
    """numpy's geometric law counts from 1."""
    mean = box_counts.COCO_BOXES / box_counts.COCO_IMAGES
    drawn = np.random.default_rng(0).geometric(1 / (1 + mean), size=(4, 4000 * images)) - 1
    assert fullest(images) == pytest.approx(middle_of_the_fullest(drawn.sum(axis=0), images), abs=1)


def test_the_law_of_boxes_fits_real_images(shared: Path) -> None:
    """300 of COCO's images: mosaics drawn from them have a fullest image within a fifth of the law's."""
    counts = []
    for split in ("train2017", "val2017"):
        content = json.loads((shared / f"coco/annotations/instances_{split}.json").read_text())
        boxes = Counter(each["image_id"] for each in content["annotations"] if not each["iscrowd"])
        counts += [boxes[image["id"]] for image in content["images"]]
    drawn = np.random.default_rng(0).choice(counts, size=(4, 4000 * 16)).sum(axis=0)
    assert fullest(16) == pytest.approx(middle_of_the_fullest(drawn, 16), rel=0.2)


def test_a_real_step_runs_on_the_same_workload() -> None:
    """What is measured on a GPU, on the CPU: boxes lie inside the images, and steps are taken."""
    work = Workload(SMALL, RECIPE.varied(run={"amp": False}), 64, 2, 5)
    images, targets = training_memory.noise(work)
    assert images.shape == (2, 3, 64, 64) and images.dtype == torch.uint8
    assert targets[:, 0].tolist() == [0.0] * 5 + [1.0] * 5
    assert targets[:, 2:].min() >= 0 and targets[:, 2:].max() <= 64
    assert (targets[:, 4:] - targets[:, 2:4]).min() >= 6.4
    state = make_state(Detector(SMALL, 80), work.recipe, 16, work.precision)
    training_memory.warm_up(work, state, (images, targets))
    training_memory.train_step(work, state, (images, targets))
    assert (state.steps, state.pending) == (2, 0)


def test_the_crowd_fills_what_the_assigner_takes_at_once() -> None:
    """At 640 px there are 80 * 80 + 40 * 40 + 20 * 20 anchors."""
    assert training_memory.CROWDED * 8400 >= PAIRS_AT_ONCE


def test_every_object_is_assumed_to_claim_all_it_may() -> None:
    work = Workload(SMALL, RECIPE, 64, 4, 3)
    assert work.marked(torch.Size([12])) == 3  # the targets of one image
    assert work.marked(torch.Size([2, 84])) == 2 * 3 * 10  # ten anchors an object
    assert replace(work, boxes=50).marked(torch.Size([2, 84])) == 2 * 84  # there are no more: 64 + 16 + 4
    assert work.marked(torch.Size([5, 7])) == 5 * 7  # a mask has no more
    assert work.settings().assumed_positives == 4 * 3 * 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to measure the memory of")
def test_a_gpu_takes_what_was_predicted_and_workspaces() -> None:
    work = Workload(SMALL, RECIPE, 640, 16, 50)
    found = training_memory.measure_training_step(work, "cuda")
    assert 0.9 * training_memory.predict_training_step(work) < found.allocated_bytes <= found.reserved_bytes
