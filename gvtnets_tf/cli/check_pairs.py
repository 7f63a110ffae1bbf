"""Check that the two images of each pair belong together."""

from gvtnets_tf.cli.arguments import add_pair_arguments


def add_arguments(parser):
    add_pair_arguments(parser, required=True)
    parser.add_argument("--axes", help="axes of the files, e.g. ZYX")


def run(args):
    from gvtnets_tf.data.pair_checks import check_pairs
    from gvtnets_tf.data.pairing import match_pairs

    pairs = match_pairs(args.inputs, args.targets, pair_by=args.pair_by)
    findings = check_pairs(pairs, args.axes, args.input_channels, args.target_channels)
    for finding in findings:
        print(f"{finding.level}: {finding.pair[0]} and {finding.pair[1]}: {finding.message}")
    print(f"{len(pairs)} pairs, {len(findings)} findings")
    if any(finding.level == "error" for finding in findings):
        raise ValueError("Some pairs cannot be used: see the lines above.")
