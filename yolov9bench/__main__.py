"""The command line: `yolov9bench COMMAND` or `python -m yolov9bench COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import sys

STOPPED = "stopped by Ctrl-C"

try:
    import errno
    import logging
    import os
    from collections.abc import Sequence
    from importlib.metadata import version
    from typing import NoReturn

    from yolov9bench.commands import COMMANDS, run
    from yolov9bench.config import Config, EvaluateConfig, TrainConfig
    from yolov9bench.config.command_line import parse_words
    from yolov9bench.errors import BenchError, SettingsError, printable
    from yolov9bench.io.files import FULL
    from yolov9bench.ops.lifeline import end_with_launcher
    from yolov9bench.ops.ranks import ALONE, Ranks, find_ranks
    from yolov9bench.ops.stops import find_stop, leave, orderly_stops
except KeyboardInterrupt:  # the imports take long enough to be stopped
    import os

    os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)

__all__ = ["COMMANDS", "main", "parse", "run", "start"]


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
    try:
        with orderly_stops():
            return run_words()
    except (Exception, KeyboardInterrupt) as error:
        stop = find_stop(error)
        if stop is None:
            raise
        line, status = stop
        say(line)
        return status


def run_words() -> int:
    """Run the command of this process's words, and say what went wrong; the exit status."""
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
        try:
            run(config)
        finally:
            sys.stdout.flush()
    except BenchError as error:
        if find_stop(error) is not None:  # not the user's mistake: an interrupt was taken for one
            raise
        if not ranks.local_rank:
            said = str(error) if ranks.world_size == 1 else f"{ranks}: {error}"
            say(printable(said))  # a name in it may come from any file
        return 2
    except OSError as error:
        if error.errno not in (errno.EPIPE, *FULL):
            raise
        return lose_output(error)
    return 0


def lose_output(error: OSError) -> int:
    """Say that what was to be printed has no space; a reader that has seen enough, as `head`, is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again to write it, as it ends
    if error.errno == errno.EPIPE:
        return 141  # the shell's own for it
    say(
        f"{error.filename or 'the output'} cannot be written ({error.strerror}): make space and run it again."
    )
    return 2


def say(line: str) -> None:
    """One line on stderr; if that cannot be written either, the status tells."""
    try:
        print(line, file=sys.stderr)
    except OSError:
        return


def start() -> NoReturn:
    """Run one command and end this process with its status."""
    leave(main())


if __name__ == "__main__":
    start()
