"""Simulated specimens and microscopes."""
