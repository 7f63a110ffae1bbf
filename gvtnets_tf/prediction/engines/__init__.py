"""What runs a network: one module per library."""
