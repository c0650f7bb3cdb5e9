"""Whom a photograph is by and under which licence, as COCO's annotation file says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Credit:
    """Where a photograph was published, and its licence by name and address."""

    url: str
    licence: str
    licence_url: str


def read_credits(
    images: Iterable[Mapping[str, Any]], licences: Iterable[Mapping[str, Any]]
) -> dict[int, Credit]:
    """The credit of each image, by id, whose entry has a flickr_url and a licence that the file lists."""
    known = {each.get("id"): each for each in licences if isinstance(each, Mapping)}
    found = {}
    for image in images:
        licence, url = image.get("license"), image.get("flickr_url")
        stated = known.get(licence) if isinstance(licence, int) else None
        if stated is not None and isinstance(url, str):
            found[image["id"]] = Credit(url, str(stated.get("name")), str(stated.get("url")))
    return found


def credits_text(credits: Mapping[int, Credit], image_ids: Iterable[int]) -> str:
    """The credits of these images as Markdown, each once; empty where none is known."""
    known = [(number, credits[number]) for number in dict.fromkeys(image_ids) if number in credits]
    parts = [f"[{number}]({each.url}) under [{each.licence}]({each.licence_url})" for number, each in known]
    return f"Photographs: {'; '.join(parts)}." if parts else ""
