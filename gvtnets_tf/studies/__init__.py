"""The comparisons of the papers, and the demonstration."""
