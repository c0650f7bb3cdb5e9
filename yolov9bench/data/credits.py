"""Whom a photograph is by and under which licence, as COCO's annotation file says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yolov9bench.data.annotation_values import plain_text


@dataclass(frozen=True)
class Credit:
    """Where a photograph was published, and its licence by name and address."""

    url: str
    licence: str
    licence_url: str


def read_credits(
    images: Iterable[Mapping[str, Any]], licences: Iterable[Mapping[str, Any]]
) -> dict[int, Credit]:
    """The credit of each image, by id, whose entry has a flickr_url and a licence that the file describes."""
    listed = [each for each in licences if isinstance(each, Mapping)]
    known = {each["id"]: each for each in listed if type(each.get("id")) is int}
    found = {}
    for image in images:
        number = image.get("license")
        licence = known.get(number, {}) if type(number) is int else {}
        said = [
            plain_text(each) for each in (image.get("flickr_url"), licence.get("name"), licence.get("url"))
        ]
        if all(said):
            found[image["id"]] = Credit(*said)
    return found


def credits_text(credits: Mapping[int, Credit], image_ids: Iterable[int]) -> str:
    """The credits of these images as Markdown, each once; empty where none is known."""
    known = [(number, credits[number]) for number in dict.fromkeys(image_ids) if number in credits]
    parts = [f"[{number}]({each.url}) under [{each.licence}]({each.licence_url})" for number, each in known]
    return f"Photographs: {'; '.join(parts)}." if parts else ""
