"""`gvtnets`: one command per thing a microscopist wants done."""

import argparse
import sys
import traceback

from gvtnets_tf import __version__
from gvtnets_tf.cli import check_pairs, convert, demo, evaluate, export, predict, study, train, zoo
from gvtnets_tf.cli.arguments import log_to_stderr, logger

# A command is a module: its docstring is the help, `add_arguments` its flags, `run` what it does.
COMMANDS = (train, predict, evaluate, check_pairs, demo, convert, export, zoo, study)


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


def main(argv=None):
    """Run one command; exit with 2 and one line where something is wrong."""
    top = parser()
    args = top.parse_args(argv)
    if args.command is None:
        top.print_help()
        return
    with log_to_stderr():
        try:
            args.run(args)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            if args.debug:
                traceback.print_exc()
            logger.error(error)  # The library has said what is wrong and what to do.
            sys.exit(2)
        except KeyboardInterrupt:
            logger.error("interrupted")
            sys.exit(130)
