"""COCO 2017 as it is published: its archives, their sizes and hashes, and the images of each split."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CocoArchive:
    """One zip of the COCO 2017 download, with its size in bytes and the hashes that are known."""

    name: str
    url: str
    bytes: int
    md5: str
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class CocoSplit:
    """One split of COCO 2017: the zip with its images, their number, and the hash of its boxes if known."""

    archive: CocoArchive
    images: int
    annotations_sha256: str | None = None


# Of the numbers 1 to 90, ten were never given to a class; labels 0..79 follow the rest in their order.
UNUSED_CATEGORY_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(number for number in range(1, 91) if number not in UNUSED_CATEGORY_IDS)
# Sizes and hashes as public mirrors of COCO 2017 list them; for train2017.zip they state the md5 alone.
ANNOTATIONS = CocoArchive(
    "annotations_trainval2017.zip",
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    252_907_541,
    "f4bbac642086de4f52a3fdda2de5fa2c",
    ("113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",),
)
SPLITS = {
    "val2017": CocoSplit(
        CocoArchive(
            "val2017.zip",
            "http://images.cocodataset.org/zips/val2017.zip",
            815_585_330,
            "442b8da7639aecaf257c1dceb8ba8c80",
            ("4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",),
        ),
        images=5_000,
        annotations_sha256="e8c7f7908f1d7278341fae127d0da654f102f11bd7b21d8aeefa635b8c810b6f",
    ),
    "train2017": CocoSplit(
        CocoArchive(
            "train2017.zip",
            "http://images.cocodataset.org/zips/train2017.zip",
            19_336_861_798,
            "cced6f7f71b7629ddf16f17bbcfab6b2",
        ),
        images=118_287,
    ),
}
