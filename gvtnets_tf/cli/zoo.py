"""List the trained networks that have a name, show one, or fetch its weights."""

import argparse
import json
from pathlib import Path

from gvtnets_tf.cli.arguments import logger, start_tensorflow


def add_arguments(parser):
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    def action(name, description):
        p = actions.add_parser(name, help=description, description=description)
        p.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
        if name != "list":
            p.add_argument("name", metavar="NAME", help="as `gvtnets zoo list` shows it")
        if name != "fetch":
            p.add_argument("--json", action="store_true", help="print JSON")
        return p

    action("list", "A line for each name: task, where its weights are, license.")
    action("show", "The card of one network: channels, voxel size, scores, source, license.")
    p = action("fetch", "Download, check and convert published weights; print their folder.")
    p.add_argument("--force", action="store_true", help="fetch again what is there")
    p.add_argument("--cache", type=Path, help="folder to keep it in, in place of the user's cache")


def run(args):
    {"list": _list, "show": _show, "fetch": _fetch}[args.action](args)


def _list(args):
    from gvtnets_tf.zoo import registry

    entries = {name: _read(name) for name in registry.read_registry()}
    print(json.dumps(entries, indent=2) if args.json else registry.format_entries(entries))


def _show(args):
    from gvtnets_tf.zoo import registry

    entry = _read(args.name)
    print(json.dumps(entry, indent=2) if args.json else registry.format_entry(args.name, entry))


def _read(name):
    from gvtnets_tf.zoo import cache, registry

    return {**registry.read_entry(name), "state": cache.read_state(name)}


def _fetch(args):
    from gvtnets_tf.zoo import fetching, registry

    logger.info(f"license of {args.name}: {registry.read_entry(args.name)['license']}")
    print(fetching.fetch(args.name, args.force, args.cache, start=start_tensorflow))
