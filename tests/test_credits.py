"""Credits of photographs: what the annotation file states, and nothing where it states none."""

import json
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data.coco import read_coco
from yolov9bench.data.credits import Credit, credits_text

LICENCES = [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]


def state(root: Path, images: list[dict[str, Any]], licences: Any = LICENCES) -> Path:
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    for entry, more in zip(content["images"], images, strict=False):
        entry |= more
    path.write_text(json.dumps(content | {"licenses": licences}))
    return root


def test_a_stated_credit_is_read_and_written_once(tiny: Path) -> None:
    state(tiny, [{"license": 4, "flickr_url": "http://farm5.example/1.jpg"}])
    dataset = read_coco(tiny, "val")
    licence = ("Attribution License", "http://creativecommons.org/licenses/by/2.0/")
    assert dataset.credits == {1: Credit("http://farm5.example/1.jpg", *licence)}
    assert credits_text(dataset.credits, [2, 1, 1]) == (
        "Photographs: [1](http://farm5.example/1.jpg) under "
        "[Attribution License](http://creativecommons.org/licenses/by/2.0/)."
    )
    assert credits_text(dataset.credits, [2, 3]) == ""


@pytest.mark.parametrize(
    ("image", "licences"),
    [
        ({"license": 4}, LICENCES),
        ({"license": 9, "flickr_url": "x"}, LICENCES),
        ({"license": [4], "flickr_url": "x"}, LICENCES),
        ({"license": 4, "flickr_url": None}, LICENCES),
        ({"license": 4, "flickr_url": "x"}, None),
        ({"license": 4, "flickr_url": "x"}, [3]),
        ({"license": 4, "flickr_url": "\ud800"}, LICENCES),
        ({"license": 4, "flickr_url": "x"}, [{"id": 4, "name": "by"}]),
        ({"license": 4, "flickr_url": "x"}, [{"id": [4], "name": "by", "url": "x"}]),
        ({"license": True, "flickr_url": "x"}, [{"id": True, "name": "by", "url": "x"}]),
    ],
)
def test_what_is_not_stated_in_full_is_no_credit(tiny: Path, image: dict[str, Any], licences: Any) -> None:
    assert read_coco(state(tiny, [image], licences), "val").credits == {}


def test_a_slice_of_coco_has_all_its_credits(shared: Path) -> None:
    dataset = read_coco(shared / "coco", "val2017")
    assert set(dataset.credits) == {image.id for image in dataset.images}
    assert dataset.credits[802].url.startswith("http://farm5.staticflickr.com/4031/")
