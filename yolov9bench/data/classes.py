"""A detector and a data set that share some classes only: which are evaluated, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from yolov9bench.data.coco import CocoDataset, fold_class_name, label_categories
from yolov9bench.errors import DatasetError, SettingsError, unknown

SHOWN_NAMES = 5


@dataclass(frozen=True, eq=False)
class ChosenClasses:
    """What is evaluated: a data set of the chosen categories alone, and the category id of each label.

    A label without a category is of a class that was not chosen. `names` are the chosen classes, the data
    set's name by the detector's; empty where all were.
    """

    dataset: CocoDataset
    categories: tuple[int | None, ...]
    names: dict[str, str] = field(default_factory=dict)


def choose_classes(
    dataset: CocoDataset, names: Mapping[int, str] | None, num_classes: int, asked: Mapping[str, str]
) -> ChosenClasses:
    """What of a detector and a data set is evaluated: the classes asked for, all if there are none.

    asked: the data set's name of each class by the detector's, often the same.

    The detector detects as always, and all its classes count among the detections that a protocol keeps of an
    image; those that are not chosen are left out of what is then stored and measured, as are the objects of
    other categories. So a chosen class has the very detections that it has without a choice. Several classes
    may become one category. All images stay, those without an object that counts too.

    Names are compared exactly, else without regard to case and outer blanks. SettingsError for a name that
    detector or data set lack; DatasetError for one that two categories have, and where nothing is chosen and
    they do not fit.
    """
    if not asked:
        remedy = f"use a data set with the detector's classes, or {_hint(dataset, names)}"
        return ChosenClasses(dataset, label_categories(dataset, names, num_classes, remedy))
    if names is None:
        raise SettingsError(
            f"the detector's {num_classes} classes have no names to choose them by: leave out classes"
        )
    pairs: dict[str, str] = {}
    ids: dict[str, int] = {}
    for own, other in asked.items():
        found = _find("class of the detector", own, names.values())
        if found in pairs:
            raise SettingsError(f"classes names {found!r} twice: name each class of the detector once")
        pairs[found] = _find(f"category of {dataset.root.name}", other, dataset.names)
        ids[found] = _number_of(dataset, pairs[found])
    categories = tuple(ids.get(names.get(label, "")) for label in range(num_classes))
    return ChosenClasses(restrict_categories(dataset, set(ids.values())), categories, pairs)


def restrict_categories(dataset: CocoDataset, numbers: set[int]) -> CocoDataset:
    """The same images with only these categories, and the objects of them."""
    return replace(
        dataset,
        categories=tuple(each for each in dataset.categories if each[0] in numbers),
        annotations=[entry for entry in dataset.annotations if entry["category_id"] in numbers],
    )


def _find(kind: str, wanted: str, names: Iterable[str]) -> str:
    known = list(names)
    if wanted in known:
        return wanted
    folded = {fold_class_name(name): name for name in reversed(known)}
    if fold_class_name(wanted) not in folded:
        raise unknown(kind, wanted, known)
    return folded[fold_class_name(wanted)]


def _number_of(dataset: CocoDataset, name: str) -> int:
    first, *others = (number for number, each in dataset.categories if each == name)
    if others:
        raise DatasetError(
            f"{dataset.root} names {1 + len(others)} categories {name!r}: give each a name of its own"
        )
    return first


def _hint(dataset: CocoDataset, names: Mapping[int, str] | None) -> str:
    """How to evaluate on what both have, as the end of a sentence."""
    theirs = {fold_class_name(name) for name in dataset.names}
    common = [name for name in (names or {}).values() if fold_class_name(name) in theirs]
    shown = [f'"{name}"' if " " in name else name for name in common[:SHOWN_NAMES]]
    shown += ["..."] if len(common) > SHOWN_NAMES else []
    return f"choose with --classes {' '.join(shown or ['DETECTOR_NAME=DATASET_NAME'])}"
