"""How often intervals of several methods contain the AP of the population that their images were drawn from.

PYTHONPATH=tests python tests/benchmarks/interval_coverage.py --images 100 --sets 500 --seeds 0 1 2

The population is synthetic: images differ in how hard they are, classes in how frequent and how hard, and
what is found depends on both. Each set is a draw of so many of its images. A 95 % interval should contain
the population's AP for 95 % of the sets; of 500 sets that is 93 to 97 % by chance alone.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from interval_methods import draw_aps, intervals

from yolov9bench.evaluation.intervals import METHOD, all_images, interval_of, paired_interval
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


def rescored(population: Population, seed: int) -> Population:
    """Another detector on the same images: other scores and overlaps, a tenth of its finds lost."""
    generator = np.random.default_rng(seed)
    odds = np.log(population.scores / (1 - population.scores))
    scores = 1 / (1 + np.exp(-(odds + generator.normal(0, 0.5, len(odds)))))
    moved = np.clip(population.overlaps + generator.normal(0.01, 0.05, len(odds)), 0, 1)
    kept = generator.random(len(odds)) > 0.1
    overlaps = np.where((population.overlaps > 0) & kept, moved, 0)
    return replace(population, scores=scores, overlaps=overlaps)


def main() -> None:
    """Print the coverage of each method, below and above apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=100, help="of a set")
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--population", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--chosen-only", action="store_true", help="without the bootstraps, for time")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for line in measure_coverage(seed, arguments):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def measure_coverage(seed: int, arguments: argparse.Namespace) -> Iterator[str]:
    """A line for the population and one for each method: covered, and how many lie on either side."""
    population = make_population(arguments.population, seed)
    other = rescored(population, seed)
    everything = np.arange(1, arguments.population + 1)
    truth, second = (ap_of(each.matches(everything)) for each in (population, other))
    generator = np.random.default_rng(1000 + seed)
    found: dict[str, list[tuple[float, float]]] = {}
    means = []
    for place in range(arguments.sets):
        chosen = 1 + generator.choice(arguments.population, arguments.images, replace=False)
        matches = population.matches(chosen)
        means.append(ap_of(matches))
        kinds: dict[str, Any] = {METHOD: interval_of(matches, arguments.draws, place)}
        kinds[f"{METHOD}, paired"] = paired_interval(matches, other.matches(chosen), arguments.draws, place)
        if not arguments.chosen_only:
            draws = draw_aps(matches, arguments.draws, generator)
            kinds |= {str(name): ends for name, ends in intervals(matches, draws).items()}
        for name, interval in kinds.items():
            found.setdefault(name, []).append(interval)
    yield (
        f"seed {seed}, {arguments.sets} sets of {arguments.images} images, population AP {truth:.4f}, "
        f"mean of the sets {np.mean(means):.4f}, second detector {second:.4f}"
    )
    for name, drawn in found.items():
        ends, value = np.array(drawn), second - truth if name.endswith("paired") else truth
        below, above = int((ends[:, 1] < value).sum()), int((ends[:, 0] > value).sum())
        covered = 100 * (1 - (below + above) / len(ends))
        yield (
            f"  {name:20} covers {covered:5.1f} %, lies below {below:3}, above {above:3}, "
            f"mean width {np.diff(ends).mean():.4f}"
        )


def ap_of(matches: Matches) -> float:
    """COCO's AP of the images as they are."""
    return matches.average_precision(all_images(matches))


if __name__ == "__main__":
    main()
