"""Networks: one file per published system, and the table of their numbers."""
