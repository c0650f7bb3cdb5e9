"""The command line: `yolov9bench COMMAND` or `python -m yolov9bench COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "parse", "run"]

STOPPED = "stopped by Ctrl-C"

try:
    from importlib.metadata import version

    from yolov9bench.commands import COMMANDS, run
    from yolov9bench.config import Config, EvaluateConfig, TrainConfig
    from yolov9bench.config.command_line import parse_words
    from yolov9bench.errors import BenchError, SettingsError, printable
    from yolov9bench.ops.lifeline import end_with_launcher
    from yolov9bench.ops.ranks import ALONE, Ranks, find_ranks
except KeyboardInterrupt:  # the imports take long enough to be stopped
    print(STOPPED, file=sys.stderr)
    sys.exit(130)


def parse(arguments: Sequence[str]) -> Config:
    """The Config of a command line; SystemExit after --help, SettingsError for what is wrong with it."""
    return parse_words(arguments, COMMANDS, str(__doc__))


def require_shared(config: Config, ranks: Ranks) -> None:
    """SettingsError for a command that several processes would each run as a whole."""
    if ranks.world_size > 1 and not isinstance(config, EvaluateConfig | TrainConfig):
        raise SettingsError(
            "torchrun shares out evaluate and train alone: start other commands without it; reproduce has "
            "--processes, and sweep --set processes=8"
        )


def main() -> int:
    """Run one command; an error that a user can correct is one sentence on stderr and status 2.

    Of several processes rank 0 logs. What is wrong before they have met is wrong in all of a machine, whose
    first one says it; `process_group` has said the others' errors.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch").setLevel(logging.WARNING)  # if its import is stopped, it lists its caches
    ranks = ALONE
    try:
        if sys.argv[1:] == ["--version"]:
            print(f"yolov9bench {version('yolov9bench')}")
            return 0
        ranks = find_ranks()
        if ranks.world_size > 1:
            end_with_launcher()
        if not ranks.is_main:
            logging.getLogger().setLevel(logging.ERROR)
        config = parse(sys.argv[1:])
        require_shared(config, ranks)
        run(config)
    except BenchError as error:
        if not ranks.local_rank:
            said = str(error) if ranks.world_size == 1 else f"{ranks}: {error}"
            print(printable(said), file=sys.stderr)  # a name in it may come from any file
        return 2
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
