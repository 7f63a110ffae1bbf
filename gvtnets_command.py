"""The start of the command `gvtnets`, outside the package, whose import alone takes a while."""

import os
import signal


def leave(number, frame):
    """End the process in one line, as long as nothing but imports has happened."""
    text = "terminated" if number == signal.SIGTERM else "interrupted"
    os.write(2, f"gvtnets: {text}\n".encode())
    os._exit(128 + number)


def main():
    """Run the command line; Ctrl-C ends it in one line from here on, and is too late at its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        from gvtnets_tf.cli.main import main as run

        run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
