"""`gvtnets`: one command per thing a microscopist wants done."""

import argparse
import contextlib
import signal
import sys
import threading
import traceback

from gvtnets_tf import __version__
from gvtnets_tf.cli import check_pairs, convert, demo, evaluate, export, predict, study, train, zoo
from gvtnets_tf.cli.arguments import log_to_stderr, logger

# A command is a module: its docstring is the help, `add_arguments` its flags, `run` what it does.
COMMANDS = (train, predict, evaluate, check_pairs, demo, convert, export, zoo, study)
# Errors that are told in one line, with what comes before their own text, and after it.
TOLD = {
    MemoryError: ("not enough memory: ", "Take less at a time: smaller tiles, patches or batches."),
    RecursionError: ("what was given is nested too deeply: ", ""),
    **dict.fromkeys((ValueError, OSError, ModuleNotFoundError), ("", "")),
}
STOPPED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as every command does."""

    def error(self, message):
        self.exit(2, f"gvtnets: {message}. See {self.prog} --help.\n")


def parser():
    """Build the parser of all commands."""
    top = Parser(prog="gvtnets", description=__doc__)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(metavar="COMMAND", dest="command")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        p = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        p.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.add_arguments(p)
        p.set_defaults(run=command.run)
    return top


@contextlib.contextmanager
def raise_at_signals():
    """Raise `KeyboardInterrupt` at Ctrl-C and SIGTERM, so that all is left in order.

    Yielded is a list of the signals that came: a library may make another error of the exception.
    """
    came = []

    def stop(number, frame):
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield came
        return
    before = {number: signal.signal(number, stop) for number in STOPPED}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_error(error, came):
    """Return the exit status of an error and the line that tells it; raise it if there is none."""
    if came or isinstance(error, KeyboardInterrupt):
        number = came[-1] if came else signal.SIGINT
        return 128 + number, STOPPED[number]
    for kind, (before, after) in TOLD.items():
        if isinstance(error, kind):  # The library has said what is wrong and what to do.
            return 2, f"{before}{error} {after}"
    raise error


def main(argv=None):
    """Run one command.

    Exit with 2 and one line where something is wrong, 3 where some of many inputs failed, 128 and
    the number of the signal (130 for Ctrl-C) where one stopped it.
    """
    top = parser()
    args = top.parse_args(argv)
    if args.command is None:
        top.print_help()
        return
    with log_to_stderr(), raise_at_signals() as came:
        try:
            args.run(args)
        except SystemExit:
            raise
        except BaseException as error:
            status, line = describe_error(error, came)
            if args.debug:
                traceback.print_exc()
            logger.error(line)
            sys.exit(status)
