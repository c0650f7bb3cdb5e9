"""What a user may ask: one frozen dataclass a command, from which flags, help and notebook cell come."""

from yolov9bench.config.commands import (
    CheckDataConfig,
    InspectConfig,
    MeasureConfig,
    PredictConfig,
    ReportConfig,
    RowsConfig,
    SweepConfig,
    TidyConfig,
    VerifyConfig,
)
from yolov9bench.config.finished import CompareConfig, ExportConfig, SecondOpinionConfig
from yolov9bench.config.flows import EvaluateConfig, ReproduceConfig, TrainConfig
from yolov9bench.config.notebook import config_from, notebook_command, parameters_from
from yolov9bench.config.speed import SpeedConfig
from yolov9bench.config.study import StudyConfig
from yolov9bench.config.values import (
    Config,
    data_folder,
    from_root,
    parse_classes,
    project_root,
    require_backend,
    require_checkpoint,
    require_name,
    require_one_detector,
    require_unset,
    results_folder,
)

__all__ = [
    "CheckDataConfig",
    "CompareConfig",
    "Config",
    "EvaluateConfig",
    "ExportConfig",
    "InspectConfig",
    "MeasureConfig",
    "PredictConfig",
    "ReportConfig",
    "ReproduceConfig",
    "RowsConfig",
    "SecondOpinionConfig",
    "SpeedConfig",
    "StudyConfig",
    "SweepConfig",
    "TidyConfig",
    "TrainConfig",
    "VerifyConfig",
    "config_from",
    "data_folder",
    "from_root",
    "notebook_command",
    "parameters_from",
    "parse_classes",
    "project_root",
    "require_backend",
    "require_checkpoint",
    "require_name",
    "require_one_detector",
    "require_unset",
    "results_folder",
]
