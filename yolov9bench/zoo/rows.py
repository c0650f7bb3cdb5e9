"""Rows of the published table: a Spec, a Recipe, the published figures and where the weights lie."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from yolov9bench.errors import SettingsError, require_choice, unknown
from yolov9bench.zoo.protocols import MMYOLO, TTA_PROTOCOLS, ULTRALYTICS, YOLOV9, Protocol
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import RECIPES
from yolov9bench.zoo.specs import SPECS, Spec

Family = Literal["yolov8", "yolov9", "gelan"]
Source = Literal["mmyolo", "official", "ultralytics"]
Flavour = Literal["converted", "dual", "gelan", "mmyolo", "ultralytics"]

REFINED = "-mask-refine"
COCO_CLASSES = 80
AUTO_SOURCE: dict[str, Source] = {"yolov8": "mmyolo", "yolov9": "official", "gelan": "official"}
PROTOCOLS: dict[Source, Protocol] = {"mmyolo": MMYOLO, "official": YOLOV9, "ultralytics": ULTRALYTICS}
FORMATS: dict[Source, str] = {"mmyolo": "mmyolo", "official": "official", "ultralytics": "ultralytics"}
LICENCES: dict[Source, str] = {"mmyolo": "GPL-3.0", "official": "GPL-3.0", "ultralytics": "AGPL-3.0"}


@dataclass(frozen=True)
class Asset:
    """A public file of weights.

    `sha256` lists every accepted hash and `bytes` the size that goes with each; both are empty where none is
    known. `sha256_prefix` are the 8 hex digits in which an mmyolo name ends. `hash_sources` counts the
    independent public places in which the hashes were seen: 0, 1, or 2 for two and more.
    """

    name: str
    url: str
    flavour: Flavour
    bytes: tuple[int, ...] = ()
    sha256: tuple[str, ...] = ()
    sha256_prefix: str | None = None
    hash_sources: int = 0

    @property
    def strict(self) -> bool:
        """Whether another hash is refused; if not, the known one is a lead, and a mismatch only a warning."""
        return self.hash_sources >= 2 or self.sha256_prefix is not None


@dataclass(frozen=True)
class Published:
    """Figures as printed by the authors, never measured here: AP in percent on val2017; None is not printed.

    `source` says where they stand. `memory_gb` is the training memory of one GPU. Parameters are in
    millions and operations in billions, in the authors' own way of counting.
    """

    source: str
    box_ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    tta_box_ap: float | None = None
    memory_gb: float | None = None
    parameters_m: float | None = None
    gflops: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `spec` is what is trained. For the official YOLOv9 rows that is the graph with its auxiliary branch, while
    the converted file, the first asset, holds the inference part only. `recipe` is None where the authors'
    training is not known in full. `protocol` is the evaluation under which the figures were published.
    """

    id: str
    family: Family
    size: str
    source: Source
    spec: Spec
    recipe: Recipe | None
    backbone: str
    protocol: Protocol
    licence: str  # of the weights
    published: Published
    assets: tuple[Asset, ...]
    config: str | None = None  # mmyolo's configuration file
    log_url: str | None = None
    image_size: int = 640  # pixels
    arch: str = "P5"

    @property
    def download(self) -> Asset:
        """The file that is fetched for this row."""
        return self.assets[0]

    @property
    def tta_protocol(self) -> Protocol | None:
        """The evaluation with test-time augmentation; None where the authors define none."""
        return TTA_PROTOCOLS.get(self.protocol.name)

    @property
    def mask_refine(self) -> bool | None:
        """Whether training took its boxes from masks; None where the recipe is unknown."""
        return self.recipe.augmentation.mask_refine if self.recipe else None

    @property
    def syncbn(self) -> bool | None:
        """Whether BatchNorm was synchronised over the GPUs; None where the recipe is unknown."""
        return self.recipe.run.syncbn if self.recipe else None

    @property
    def amp(self) -> bool | None:
        """Whether training ran in mixed precision; None where the recipe is unknown."""
        return self.recipe.run.amp if self.recipe else None

    @property
    def box_ap_gain(self) -> float | None:
        """Published AP points that a mask-refine row has over the plain row; None for every other row."""
        plain = ROWS.get(self.id.removesuffix(REFINED))
        if plain is None or plain.id == self.id:
            return None
        ours, theirs = self.published.box_ap, plain.published.box_ap
        return None if ours is None or theirs is None else round(ours - theirs, 1)

    @property
    def box_ap_text(self) -> str:
        """The table's cell: "37.2", or "37.4 (+0.2)" for a mask-refine row."""
        if self.published.box_ap is None:
            return "—"
        gain = self.box_ap_gain
        return f"{self.published.box_ap:.1f}" + ("" if gain is None else f" ({gain:+.1f})")


MMYOLO_TABLE = "configs/yolov8/README.md of mmyolo 0.6.0: best checkpoint, 8 A100, memory as logged"
MMYOLO_FILES = "https://download.openmmlab.com/mmyolo/v0/yolov8"


def _mmyolo(row_id: str, box_ap: float, tta_box_ap: float | None, memory_gb: float, run: str) -> Row:
    """A row of mmyolo's zoo; `run` is the date, time and hash in which its file name ends."""
    size = row_id.removeprefix("yolov8-")[0]
    refined = "mask-refine_" if row_id.endswith(REFINED) else ""
    stem = f"yolov8_{size}_{refined}syncbn_fast_8xb16-500e_coco"
    stamp, prefix = run.split("-")
    file = f"{stem}_{run}.pth"
    return Row(
        row_id,
        family="yolov8",
        size=size,
        source="mmyolo",
        spec=SPECS[f"yolov8-{size}"],
        recipe=RECIPES[row_id],
        backbone=f"YOLOv8-{size}",
        protocol=PROTOCOLS["mmyolo"],
        licence=LICENCES["mmyolo"],
        published=Published(MMYOLO_TABLE, box_ap=box_ap, tta_box_ap=tta_box_ap, memory_gb=memory_gb),
        assets=(Asset(file, f"{MMYOLO_FILES}/{stem}/{file}", "mmyolo", sha256_prefix=prefix),),
        config=f"{stem}.py",
        log_url=f"{MMYOLO_FILES}/{stem}/{stem}_{stamp}.log.json",
    )


YOLOV8_ROWS = (
    _mmyolo("yolov8-n", 37.2, None, 2.8, "20230114_131804-88c11cdb"),
    _mmyolo("yolov8-n-mask-refine", 37.4, 39.9, 2.5, "20230216_101206-b975b1cd"),
    _mmyolo("yolov8-s", 44.2, None, 4.0, "20230117_180101-5aa5f0f1"),
    _mmyolo("yolov8-s-mask-refine", 45.1, 46.8, 4.0, "20230216_095938-ce3c1b3f"),
    _mmyolo("yolov8-m", 49.8, None, 7.2, "20230115_192200-c22e560a"),
    _mmyolo("yolov8-m-mask-refine", 50.6, 52.3, 7.0, "20230216_223400-f40abfcd"),
    _mmyolo("yolov8-l", 52.1, None, 9.8, "20230217_182526-189611b6"),
    _mmyolo("yolov8-l-mask-refine", 53.0, 54.4, 9.1, "20230217_120100-5881dec4"),
    _mmyolo("yolov8-x", 52.7, None, 12.2, "20230218_023338-5674673c"),
    _mmyolo("yolov8-x-mask-refine", 54.0, 55.0, 12.4, "20230217_120411-079ca8d1"),
)

YOLOV9_README = "README of WongKinYiu/yolov9"
YOLOV9_PAPER = "Table 1 of arXiv:2402.13616"
YOLOV9_BOTH = f"{YOLOV9_README}; AP by object size: {YOLOV9_PAPER}"


def _released(name: str, flavour: Flavour, size: int, sha256: str, hash_sources: int) -> Asset:
    """A file of the official release whose size in bytes and hash were seen in public."""
    url = f"https://github.com/WongKinYiu/yolov9/releases/download/v0.1/{name}"
    return Asset(name, url, flavour, bytes=(size,), sha256=(sha256,), hash_sources=hash_sources)


# The release has this file, but neither its size nor its hash was seen in public: see `unlike`.
GELAN_C_FILE = Asset(
    "gelan-c.pt", "https://github.com/WongKinYiu/yolov9/releases/download/v0.1/gelan-c.pt", "gelan"
)


def _official(row_id: str, spec: str, published: Published, *assets: Asset) -> Row:
    """A row of the official release; the recipe is the family's."""
    family: Family = "gelan" if row_id.startswith("gelan") else "yolov9"
    return Row(
        row_id,
        family=family,
        size=row_id[-1],
        source="official",
        spec=SPECS[spec],
        recipe=RECIPES[family],
        backbone=row_id.replace("yolov9", "YOLOv9").replace("gelan", "GELAN"),
        protocol=PROTOCOLS["official"],
        licence=LICENCES["official"],
        published=published,
        assets=assets,
    )


# Columns: AP, AP50, AP75, then AP of small, medium and large objects.
OFFICIAL_ROWS = (
    _official(
        "yolov9-t",
        "yolov9-t-80",
        Published(YOLOV9_README, 38.3, 53.1, 41.3, parameters_m=2.0, gflops=7.7),
        _released(
            "yolov9-t-converted.pt",
            "converted",
            4_632_858,
            "61e080e964e65e32b884477c5e6344c607c7e02103d64649de810edaeb869803",
            hash_sources=2,
        ),
    ),
    _official(
        "yolov9-s",
        "yolov9-s",
        # 56.0 for medium objects is as printed, though high beside the other sizes.
        Published(YOLOV9_BOTH, 46.8, 63.4, 50.7, 26.6, 56.0, 64.5, parameters_m=7.1, gflops=26.4),
        _released(
            "yolov9-s-converted.pt",
            "converted",
            15_044_442,
            "09bf9ca4adef37944f4406455b5b81b451c1e67307916e4702da68cda4d3e46d",
            hash_sources=1,
        ),
    ),
    _official(
        "yolov9-m",
        "yolov9-m",
        Published(YOLOV9_BOTH, 51.4, 68.1, 56.1, 33.6, 57.0, 68.0, parameters_m=20.0, gflops=76.3),
        _released(
            "yolov9-m-converted.pt",
            "converted",
            40_675_619,
            "4f60eef3aca520d4a74e80d1c246c6b094ba40228f22bea13e864cd7a49c2349",
            hash_sources=1,
        ),
    ),
    _official(
        "yolov9-c",
        "yolov9-c",
        Published(YOLOV9_BOTH, 53.0, 70.2, 57.8, 36.2, 58.5, 69.3, parameters_m=25.3, gflops=102.1),
        _released(
            "yolov9-c-converted.pt",
            "converted",
            51_477_927,
            "39b6b490b1e4034b4fefdcdac81380155e0a30ba6c938a9751e2c351f81a517f",
            hash_sources=2,
        ),
        _released(
            "yolov9-c.pt",
            "dual",
            103_153_312,
            "e441b2dc84bd581b50a13c745864532c828da7508539b32a6fd603a745d5d94a",
            hash_sources=1,
        ),
    ),
    _official(
        "yolov9-e",
        "yolov9-e",
        Published(YOLOV9_BOTH, 55.6, 72.8, 60.6, 40.2, 61.0, 71.4, parameters_m=57.3, gflops=189.0),
        _released(
            "yolov9-e-converted.pt",
            "converted",
            117_160_386,
            "6763139daa09adfe3c694226725b460211f1f717b971bfade10a548b600716e2",
            hash_sources=2,
        ),
        _released(
            "yolov9-e.pt",
            "dual",
            140_217_688,
            "c275516cc0451f99871ce9a0f3d244528a9d16ae70c7b1868ec4d3a2754189f2",
            hash_sources=1,
        ),
    ),
    _official(
        "gelan-c",
        "gelan-c",
        Published(YOLOV9_PAPER, 52.5, 69.5, 57.3, 35.8, 57.6, 69.4, parameters_m=25.3, gflops=102.1),
        GELAN_C_FILE,
    ),
    _official(
        "gelan-e",
        "gelan-e",
        Published(YOLOV9_PAPER, 55.0, 71.9, 60.0, 38.0, 60.6, 70.9, parameters_m=57.3, gflops=189.0),
        _released(
            "gelan-e.pt",
            "gelan",
            117_203_713,
            "11777ccf5faf5d4a23ef1a2059a88b7eb972c1b2f81a3f68960121c1f391130d",
            hash_sources=1,
        ),
    ),
)

# Each file was seen in two versions: the first release, and a later one that was saved again with the same
# tensors. Hashes are those of git-lfs pointers, lists of release digests and download scripts in public
# repositories; for yolov9m.pt and yolov9e.pt the pointer of one repository each, which is a lead. For
# yolov9t.pt, yolov9s.pt and yolov9c.pt none was found that is not the official release's under their name.
ULTRALYTICS_KNOWN: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "yolov8n.pt": (
        (6_534_387, 6_549_796),
        (
            "31e20dde3def09e2cf938c7be6fe23d9150bbbe503982af13345706515f2ef95",
            "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
        ),
    ),
    "yolov8s.pt": (
        (22_573_363, 22_588_772),
        (
            "268e5bb54c640c96c3510224833bc2eeacab4135c6deb41502156e39986b562d",
            "1f47a78bf100391c2a140b7ac73a1caae18c32779be7d310658112f7ac9aa78a",
        ),
    ),
    "yolov8m.pt": (
        (52_117_635, 52_136_884),
        (
            "6c25b0b63b1a433843f06d821a9ac1deb8d5805f74f0f38772c7308c5adc55a5",
            "5d4a90cdc7a21786cc59cd19778e9eafff836df9e2da32524737c7ee6efe4fe5",
        ),
    ),
    "yolov8l.pt": (
        (87_769_683, 87_792_836),
        (
            "18218ea4798da042d9862e6029ca9531adbd40ace19b6c9a75e2e28f1adf30cc",
            "64c9115303f6a25575f82200d1b22ec409fa6bd7d08d0313884fc20d919478cd",
        ),
    ),
    "yolov8x.pt": (
        (136_867_539, 136_890_692),
        (
            "c4d5a3f000d771762f03fc8b57ebd0aae324aeaefdd6e68492a9c4470f2d1e8b",
            "3df4ada6b4dad6d657868f2fdf7faecfb34dcfccf3a25c4b82079064718524c8",
        ),
    ),
    "yolov9m.pt": (
        (40_993_492,),
        ("be7ac91362bd81dfa901077706d634e571c1ff7f3886b3aac6a0e97eff2f5440",),
    ),
    "yolov9e.pt": (
        (117_530_476,),
        ("dd2b885778335aa6a788e03bc29f7d68b9f0c6fba6a57e7a1acbd761e2d5858d",),
    ),
}
ULTRALYTICS_LEADS = ("yolov9m.pt", "yolov9e.pt")  # seen in one public place


def _ultralytics(
    family: Family, size: str, box_ap: float, ap50: float | None, parameters_m: float, gflops: float
) -> Row:
    """A row of Ultralytics' documentation; how its weights were trained is not known in full."""
    name = f"{family}{size}"
    file = f"{name}.pt"
    sizes, hashes = ULTRALYTICS_KNOWN.get(file, ((), ()))
    asset = Asset(
        file,
        f"https://github.com/ultralytics/assets/releases/download/v8.3.0/{file}",
        "ultralytics",
        bytes=sizes,
        sha256=hashes,
        hash_sources=0 if not hashes else 1 if file in ULTRALYTICS_LEADS else 2,
    )
    backbone = f"{family.replace('yolo', 'YOLO')}-{size}"
    source = f"Ultralytics' documentation, models/{family}, detection on COCO"
    return Row(
        f"ultralytics-{name}",
        family=family,
        size=size,
        source="ultralytics",
        spec=SPECS[f"yolov8-{size}" if family == "yolov8" else f"ultralytics-{name}"],
        recipe=None,
        backbone=backbone,
        protocol=PROTOCOLS["ultralytics"],
        licence=LICENCES["ultralytics"],
        published=Published(source, box_ap, ap50, parameters_m=parameters_m, gflops=gflops),
        assets=(asset,),
    )


# Columns: AP, AP50, parameters in millions, GFLOPs. The YOLOv9 AP are those that its authors print.
ULTRALYTICS_ROWS = (
    _ultralytics("yolov8", "n", 37.3, None, 3.2, 8.7),
    _ultralytics("yolov8", "s", 44.9, None, 11.2, 28.6),
    _ultralytics("yolov8", "m", 50.2, None, 25.9, 78.9),
    _ultralytics("yolov8", "l", 52.9, None, 43.7, 165.2),
    _ultralytics("yolov8", "x", 53.9, None, 68.2, 257.8),
    _ultralytics("yolov9", "t", 38.3, 53.1, 2.0, 7.7),
    _ultralytics("yolov9", "s", 46.8, 63.4, 7.2, 26.7),
    _ultralytics("yolov9", "m", 51.4, 68.1, 20.1, 76.8),
    _ultralytics("yolov9", "c", 53.0, 70.2, 25.5, 102.8),
    _ultralytics("yolov9", "e", 55.6, 72.8, 58.1, 192.5),
)

ROWS: dict[str, Row] = {line.id: line for line in (*YOLOV8_ROWS, *OFFICIAL_ROWS, *ULTRALYTICS_ROWS)}


def row(row_id: str) -> Row:
    """The row of that id, in any case; raises SettingsError with the nearest id, or with all of them."""
    if row_id.lower() not in ROWS:
        raise unknown("row", row_id, ROWS)
    return ROWS[row_id.lower()]


def find_row(family: str, size: str, mask_refine: bool = False, source: str = "auto") -> Row:
    """The row of a family and size, in any case; raises SettingsError that says what there is instead.

    `mask_refine` chooses between the two mmyolo rows of a YOLOv8 size. `source` "auto" is mmyolo for YOLOv8
    and the official release for YOLOv9 and GELAN.
    """
    family, size, source = family.lower(), size.lower(), source.lower()
    require_choice("family", family, AUTO_SOURCE)
    require_choice("source", source, ("auto", *PROTOCOLS))
    publisher = AUTO_SOURCE[family] if source == "auto" else source
    offered = [line for line in ROWS.values() if line.family == family and line.source == publisher]
    if not offered:
        raise SettingsError(f"{publisher} publishes no {family}; choose source {AUTO_SOURCE[family]!r}")
    sized = [line for line in offered if line.size == size]
    if not sized:
        raise _no_size(family, size, offered)
    for found in sized:
        if found.id.endswith(REFINED) == mask_refine:
            return found
    raise _no_mask_refine(sized[0])


def _no_size(family: str, size: str, offered: list[Row]) -> SettingsError:
    sizes = list(dict.fromkeys(line.size for line in offered))
    if f"{family}-{size}" in SPECS:
        ids = " or ".join(line.id for line in offered)
        return SettingsError(f"{family}-{size} has no released file; choose {ids}, or train it yourself")
    return unknown(f"{family} of size", size, sizes)


def _no_mask_refine(plain: Row) -> SettingsError:
    if plain.mask_refine:
        reason = f"{plain.family} has one recipe a size, which takes its boxes from masks already"
    else:
        reason = f"{plain.source} publishes no {plain.family} with mask refine"
    return SettingsError(f"{reason}; leave mask_refine false")


def remedy_for_missing(name: str) -> str:
    """What to do where no checkpoint is: an address is to be downloaded, a row's id names a command."""
    if re.match(r"(https?|ftp|s3):/", name):
        return "it is an address; download the file first, and give its path"
    line = ROWS.get(name.lower())
    if line is None:
        return "check the path"
    refined = " --mask-refine" if line.id.endswith(REFINED) else ""
    source = "" if line.source == AUTO_SOURCE[line.family] else f" --source {line.source}"
    return (
        "it is a row, whose own file this command fetches and evaluates: "
        f"yolov9bench reproduce --family {line.family} --size {line.size}{refined}{source}"
    )


def row_of_file(sha256: str) -> tuple[Row, Asset] | None:
    """The row and asset to which a file with this sha256 (64 hex digits) belongs, or None.

    A known hash must match in full; for mmyolo's files its first 8 digits are all that is published.
    """
    digest = sha256.lower()
    for candidate in ROWS.values():
        for asset in candidate.assets:
            if digest in asset.sha256 or digest[:8] == asset.sha256_prefix:
                return candidate, asset
    return None


def unlike(row: Row, file_format: str, spec: Spec | None, classes: int | None) -> list[str]:
    """What in a file's content is not that of a row's published one, a few words each; empty if all is.

    `spec` is the network that the file holds, None for an unknown one. Its name and its auxiliary branch do
    not count: a converted file is without the branch, and is then the GELAN of that size.
    """
    found = []
    if file_format != FORMATS[row.source]:
        found.append(f"format {file_format}, not {FORMATS[row.source]}")
    if spec is None or _inference_part(spec) != _inference_part(row.spec):
        found.append(f"network {spec.name if spec else 'unknown'}, not {row.spec.name}")
    if classes != COCO_CLASSES:
        found.append(f"{'unknown' if classes is None else classes} classes, not {COCO_CLASSES}")
    return found


def _inference_part(spec: Spec) -> Spec:
    return replace(spec, name="", aux=None, aux_head=None)
