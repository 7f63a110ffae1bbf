"""The command line, `gvtnets`: one module per command, put together in `main`."""
