"""The command line: tinyseg train | eval | predict | crf | check | convert | weaken | models | devices. One command,
one file.

A command is a module with `add(commands)`, which declares its options, and the function that carries it out. One that
fails prints one paragraph and ends with status 1 (2 where the command itself makes no sense); with TINYSEG_DEBUG=1 it
shows the whole traceback.
"""

import argparse
import logging
import os
import shlex
import sys

from .. import __version__
from . import check, convert, crf, devices, evaluate, models, predict, train, weaken
from .common import UsageError

COMMANDS = (train, evaluate, predict, crf, check, convert, weaken, models, devices)  # in the order of --help


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser().print_help(sys.stderr)
        return 2
    options, unknown = parser().parse_known_args(argv)
    if unknown:
        print(f"tinyseg {argv[0]}: unknown: {' '.join(unknown)}; see tinyseg {argv[0]} --help", file=sys.stderr)
        return 2
    options.command_line = shlex.join(["tinyseg", *argv])
    log = logging.getLogger("tinyseg")
    before = log.handlers[:], log.propagate, log.level
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("TINYSEG_DEBUG") == "1":
            raise
        expected = isinstance(error, ValueError | RuntimeError | OSError | MemoryError | FloatingPointError)
        text = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"  # without its number
        if not expected:
            text += " (this is a fault of tinyseg; TINYSEG_DEBUG=1 shows where)"
        print(f"tinyseg {argv[0]}: {text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    finally:  # whoever called from Python finds the logger as it was
        log.handlers[:], log.propagate, _ = before
        log.setLevel(before[2])


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    what = "Image segmentation from the gradient up. tinyseg COMMAND --help tells a command's options."
    top = argparse.ArgumentParser(prog="tinyseg", description=what)
    top.add_argument("--version", action="version", version=f"tinyseg {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top
