"""Scores of virtual staining as the papers report them."""
