"""The points of the performance figure of arXiv:2402.13616: what others and its authors published."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One network as printed: parameters in millions, operations in billions, AP in percent on val2017."""

    name: str
    parameters_m: float
    gflops: float
    ap: float


@dataclass(frozen=True)
class Series:
    """A family of networks; each of its `lines` is drawn apart, its points by ascending parameters."""

    name: str
    source: str
    lines: tuple[tuple[Point, ...], ...]


TABLE_1 = "Table 1 of arXiv:2402.13616"
APPENDIX = "Table 3 in the appendix of arXiv:2402.13616"

# In the order of the figure's legend. The figure leaves out one row of the paper's tables, a shallow GELAN-C,
# and so does this list; YOLOv5-N (28.0 AP) lies below the figure's axis.
SERIES: tuple[Series, ...] = (
    Series(
        "YOLOv9",
        f"{TABLE_1}; 34.7 M and 44.0 M: {APPENDIX}",
        (
            (
                Point("YOLOv9-S", 7.1, 26.4, 46.8),
                Point("YOLOv9-M", 20.0, 76.3, 51.4),
                Point("YOLOv9-C", 25.3, 102.1, 53.0),
                Point("YOLOv9-E of 34.7 M", 34.7, 147.1, 54.5),
                Point("YOLOv9-E of 44.0 M", 44.0, 183.9, 55.1),
                Point("YOLOv9-E", 57.3, 189.0, 55.6),
            ),
        ),
    ),
    Series(
        "PPYOLOE",
        APPENDIX,
        (
            (
                Point("PPYOLOE-S", 7.9, 14.4, 43.0),
                Point("PPYOLOE-M", 23.4, 49.9, 49.0),
                Point("PPYOLOE-L", 52.2, 110.1, 51.4),
                Point("PPYOLOE-X", 98.4, 206.6, 52.3),
            ),
        ),
    ),
    Series(
        "YOLOv6 v3.0",
        TABLE_1,
        (
            (
                Point("YOLOv6-N v3.0", 4.7, 11.4, 37.0),
                Point("YOLOv6-S v3.0", 18.5, 45.3, 44.3),
                Point("YOLOv6-M v3.0", 34.9, 85.8, 49.1),
                Point("YOLOv6-L v3.0", 59.6, 150.7, 51.8),
            ),
        ),
    ),
    Series(
        "YOLOv8",
        TABLE_1,
        (
            (
                Point("YOLOv8-N", 3.2, 8.7, 37.3),
                Point("YOLOv8-S", 11.2, 28.6, 44.9),
                Point("YOLOv8-M", 25.9, 78.9, 50.2),
                Point("YOLOv8-L", 43.7, 165.2, 52.9),
                Point("YOLOv8-X", 68.2, 257.8, 53.9),
            ),
        ),
    ),
    Series(
        "Gold YOLO",
        TABLE_1,
        (
            (
                Point("Gold YOLO-N", 5.6, 12.1, 39.6),
                Point("Gold YOLO-S", 21.5, 46.0, 45.4),
                Point("Gold YOLO-M", 41.3, 87.5, 49.8),
                Point("Gold YOLO-L", 75.1, 151.7, 51.8),
            ),
        ),
    ),
    Series(
        "RT DETR",
        APPENDIX,
        (
            (
                Point("RT DETR-R18", 20.0, 60.0, 46.5),
                Point("RT DETR-R34", 31.0, 92.0, 48.9),
                Point("RT DETR-R50M", 36.0, 100.0, 51.3),
                Point("RT DETR-R50", 42.0, 136.0, 53.1),
                Point("RT DETR-R101", 76.0, 259.0, 54.3),
            ),
            (
                Point("RT DETR-L", 32.0, 110.0, 53.0),
                Point("RT DETR-X", 67.0, 234.0, 54.8),
            ),
        ),
    ),
    Series(
        "GELAN",
        f"{TABLE_1}; other depths than -S, -M, -C and -E: Table 3 of the paper",
        (
            (
                Point("GELAN-S, ELAN depth 2, CSP depth 1", 5.9, 22.4, 45.5),
                Point("GELAN-S, ELAN depth 2, CSP depth 2", 6.5, 24.4, 46.0),
                Point("GELAN-S, ELAN depth 3, CSP depth 1", 7.1, 26.3, 46.5),
                Point("GELAN-S, ELAN depth 2, CSP depth 3", 7.1, 26.4, 46.7),
                Point("GELAN-M, ELAN depth 2, CSP depth 1", 20.0, 76.3, 51.1),
                Point("GELAN-M, ELAN depth 2, CSP depth 2", 22.2, 85.1, 51.7),
                Point("GELAN-M, ELAN depth 3, CSP depth 1", 24.3, 93.5, 51.8),
                Point("GELAN-M, ELAN depth 2, CSP depth 3", 24.4, 94.0, 52.3),
                Point("GELAN-C, ELAN depth 2, CSP depth 1", 25.3, 102.1, 52.5),
                Point("GELAN-C, ELAN depth 2, CSP depth 2", 28.6, 114.4, 53.0),
                Point("GELAN-C, ELAN depth 3, CSP depth 1", 31.7, 126.8, 53.2),
                Point("GELAN-C, ELAN depth 2, CSP depth 3", 31.9, 126.7, 53.3),
                Point("GELAN-E", 57.3, 189.0, 55.0),
            ),
        ),
    ),
    Series(
        "YOLOv5 r7.0",
        TABLE_1,
        (
            (
                Point("YOLOv5-N r7.0", 1.9, 4.5, 28.0),
                Point("YOLOv5-S r7.0", 7.2, 16.5, 37.4),
                Point("YOLOv5-M r7.0", 21.2, 49.0, 45.4),
                Point("YOLOv5-L r7.0", 46.5, 109.1, 49.0),
                Point("YOLOv5-X r7.0", 86.7, 205.7, 50.7),
            ),
        ),
    ),
    Series(
        "YOLOv7",
        TABLE_1,
        (
            (
                Point("YOLOv7-N AF", 3.1, 8.7, 37.6),
                Point("YOLOv7-S AF", 11.0, 28.1, 45.1),
                Point("YOLOv7 AF", 43.6, 130.5, 53.0),
            ),
            (
                Point("YOLOv7", 36.9, 104.7, 51.2),
                Point("YOLOv7-X", 71.3, 189.9, 52.9),
            ),
        ),
    ),
    Series(
        "DAMO YOLO",
        TABLE_1,
        (
            (
                Point("DAMO YOLO-T", 8.5, 18.1, 42.0),
                Point("DAMO YOLO-S", 12.3, 37.8, 46.0),
                Point("DAMO YOLO-M", 28.2, 61.8, 49.2),
                Point("DAMO YOLO-L", 42.1, 97.3, 50.8),
            ),
        ),
    ),
    Series(
        "RTMDet",
        APPENDIX,
        (
            (
                Point("RTMDet-T", 4.8, 12.6, 41.1),
                Point("RTMDet-S", 9.0, 25.6, 44.6),
                Point("RTMDet-M", 24.7, 78.6, 49.4),
                Point("RTMDet-L", 52.3, 160.4, 51.5),
                Point("RTMDet-X", 94.9, 283.4, 52.8),
            ),
        ),
    ),
    Series(
        "YOLO MS",
        TABLE_1,
        (
            (
                Point("YOLO MS-N", 4.5, 17.4, 43.4),
                Point("YOLO MS-S", 8.1, 31.2, 46.2),
                Point("YOLO MS", 22.2, 80.2, 51.0),
            ),
        ),
    ),
)
