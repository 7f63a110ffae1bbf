"""List the trained networks that have a name, show one, or fetch its weights."""

import argparse
import json
from pathlib import Path

from gvtnets_tf.cli.arguments import logger, start_keras
from gvtnets_tf.zoo import registry


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
    from gvtnets_tf.zoo import cache, fetching

    if args.action == "fetch":
        logger.info(f"license of {args.name}: {registry.read_entry(args.name)['license']}")
        print(fetching.fetch(args.name, args.force, args.cache, start=start_keras))
        return
    names = registry.read_registry() if args.action == "list" else [args.name]
    entries = {n: {**registry.read_entry(n), "state": cache.read_state(n)} for n in names}
    if args.action == "list":
        print(json.dumps(entries, indent=2) if args.json else registry.format_entries(entries))
    else:
        entry = entries[args.name]
        print(json.dumps(entry, indent=2) if args.json else registry.format_entry(args.name, entry))
