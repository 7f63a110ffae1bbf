"""Look for pairs that do not belong together, and say how."""

from gvtnets_tf.cli.arguments import add_pair_arguments


def add_arguments(parser):
    add_pair_arguments(parser, required=True)
    parser.add_argument("--axes", help="axes of the files, e.g. ZYX")


def run(args):
    from gvtnets_tf.data.pair_checks import check_pairs
    from gvtnets_tf.data.pairing import match_pairs

    pairs = match_pairs(args.inputs, args.targets, pair_by=args.pair_by)
    found = check_pairs(pairs, args.axes, args.input_channels, args.target_channels)
    for finding in found:
        print(f"{finding.level}: {finding.pair[0]} and {finding.pair[1]}: {finding.message}")
    print(f"{len(pairs)} pairs, {len(found)} findings")
    if any(finding.level == "error" for finding in found):
        raise ValueError("Some pairs cannot be used: see the lines above.")
