"""How often intervals of several methods contain the AP of the population that their images were drawn from.

OMP_NUM_THREADS=1 python tests/benchmarks/interval_coverage.py --images 100 --sets 500 --seeds 0 1 2

The population is synthetic: images differ in how hard they are, classes in how frequent and how hard, and
what is found depends on both. Each set is a draw of so many of its images. A 95 % interval should contain
the population's AP for 95 % of the sets; of 500 sets that is 93 to 97 % by chance alone.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolov9bench.evaluation.bootstrap import METHODS, draw_aps, intervals
from yolov9bench.evaluation.matching import IOUS, Matches

CLASSES = 20
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """Detections and objects of many images: image, class, score and IoU with its object (0: false alarm)."""

    images: int
    detection_images: Integers
    detection_classes: Integers
    scores: npt.NDArray[np.float64]
    overlaps: npt.NDArray[np.float64]
    object_images: Integers
    object_classes: Integers

    def matches(self, chosen: Integers) -> Matches:
        """The matches of these images, numbered from 1 in their order."""
        number = np.zeros(self.images + 1, np.int64)
        number[chosen] = np.arange(1, len(chosen) + 1)
        kept = np.flatnonzero(number[self.detection_images])
        order = kept[np.lexsort((-self.scores[kept], self.detection_classes[kept]))]
        objects = number[self.object_images] > 0
        overlaps = self.overlaps[order]
        return Matches(
            images=len(chosen),
            classes=CLASSES,
            image_of=number[self.detection_images[order]],
            starts=np.searchsorted(self.detection_classes[order], np.arange(1, CLASSES + 2)),
            found=tuple(np.flatnonzero(overlaps >= each) for each in IOUS),
            ignored=tuple(np.zeros(0, np.int64) for _ in IOUS),
            object_images=number[self.object_images[objects]],
            object_classes=self.object_classes[objects],
            scores=self.scores[order],
            overlaps=overlaps[overlaps >= IOUS[0]],
        )


def make_population(images: int, seed: int) -> Population:
    """Seven objects an image in the mean, classes with shares from 30 % to under 1 %."""
    generator = np.random.default_rng(seed)
    shares = 0.8 ** np.arange(CLASSES)
    hardness = generator.normal(0, 0.7, CLASSES + 1)
    of_image = generator.normal(0, 0.8, images + 1)
    counts = generator.negative_binomial(2, 2 / 9, images)
    object_images = np.repeat(np.arange(1, images + 1), counts)
    object_classes = generator.choice(np.arange(1, CLASSES + 1), len(object_images), p=shares / shares.sum())
    ease = (
        0.8 - of_image[object_images] - hardness[object_classes] + generator.normal(0, 1, len(object_images))
    )
    found = ease > 0
    overlaps = 1 - 0.5 * generator.beta(1.5, 3, found.sum()) * np.exp(-0.3 * ease[found])
    scores = 1 / (1 + np.exp(-(ease[found] - 0.5 + generator.normal(0, 0.7, found.sum()))))
    alarms = generator.poisson(4, images)
    alarm_images = np.repeat(np.arange(1, images + 1), alarms)
    alarm_scores = 1 / (1 + np.exp(-generator.normal(-1.8, 1.2, len(alarm_images))))
    return Population(
        images,
        np.concatenate([object_images[found], alarm_images]),
        np.concatenate(
            [
                object_classes[found],
                generator.choice(np.arange(1, CLASSES + 1), len(alarm_images), p=shares / shares.sum()),
            ]
        ),
        np.concatenate([scores, alarm_scores]),
        np.concatenate([overlaps, np.zeros(len(alarm_images))]),
        object_images,
        object_classes,
    )


def main() -> None:
    """Print the coverage of each method, below and above apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=100, help="of a set")
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--population", type=int, default=20_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        population = make_population(arguments.population, seed)
        whole = population.matches(np.arange(1, arguments.population + 1))
        truth = whole.average_precision(np.ones(arguments.population + 1, np.int64))
        generator = np.random.default_rng(1000 + seed)
        below = dict.fromkeys(METHODS, 0)
        above = dict.fromkeys(METHODS, 0)
        widths = dict.fromkeys(METHODS, 0.0)
        means = []
        for _ in range(arguments.sets):
            chosen = 1 + generator.choice(arguments.population, arguments.images, replace=False)
            matches = population.matches(chosen)
            draws = draw_aps(matches, arguments.resamples, generator)
            means.append(draws.ap)
            for name, (low, high) in intervals(matches, draws).items():
                below[name] += high < truth
                above[name] += low > truth
                widths[name] += (high - low) / arguments.sets
        sys.stdout.write(
            f"seed {seed}, {arguments.sets} sets of {arguments.images} images, population AP {truth:.4f}, "
            f"mean of the sets {np.mean(means):.4f}\n"
        )
        for name in METHODS:
            covered = 100 * (1 - (below[name] + above[name]) / arguments.sets)
            sys.stdout.write(
                f"  {name:12} covers {covered:5.1f} %, lies below {below[name]:3}, above {above[name]:3}, "
                f"mean width {widths[name]:.4f}\n"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
