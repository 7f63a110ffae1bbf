"""Commands run in a process of their own, with bounds on memory, one after the other."""

import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

GROW = 4 * 2**30  # bytes that the process may ask for, beyond what it has when it is bounded


class Worker:
    """A process that runs lines of the command `gvtnets`; another one, once it has died."""

    def __init__(self, first):
        self.first, self.process = first, None

    def run(self, folder, words, seconds):
        """Run one line in a folder; return what came of it as a mapping."""
        if self.process is None:
            self._start()
        return self._ask(folder, words, seconds)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _start(self):
        """Start a process, let it do one sound line, and bound its memory from there on."""
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self._ask(*self.first, 300)
        self.pipe.send(None)

    def _ask(self, folder, words, seconds):
        began = time.monotonic()
        self.pipe.send((str(folder), words))
        try:
            # Twice, as a machine that was asleep has used up no more than the first time.
            if self.pipe.poll(seconds / 2) or self.pipe.poll(seconds / 2):
                return self.pipe.recv()
        except EOFError:
            pass
        self.process.join(0 if time.monotonic() - began >= seconds else 10)
        status = self.process.exitcode
        self.stop()
        how = "did not end" if status is None else f"ended the process with {status}"
        spent = time.monotonic() - began
        return {"status": how, "errors": [], "shown": "", "growth": 0, "seconds": spent}


def serve(pipe):
    """Run the lines that come through a pipe; `None` bounds the memory."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    errors = Errors()
    logging.getLogger("gvtnets_tf").addHandler(errors)
    while True:
        job = pipe.recv()
        if job is None:
            limit = _memory("VmSize") + GROW
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            continue
        errors.said.clear()
        with tempfile.TemporaryFile() as shown:
            pipe.send({**_run(*job, shown), "errors": list(errors.said)})


class Errors(logging.Handler):
    """Keep the errors that were told, apart from warnings and notes."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def _run(folder, words, shown):
    from gvtnets_tf.cli import main as cli

    os.chdir(folder)
    _send_output(shown.fileno())
    before, began = _memory("VmRSS"), (time.monotonic(), time.process_time())
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    try:
        cli.main(words)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        status = "an exception"
        traceback.print_exc()
    # What a busy machine takes longer for is no fault of the file.
    spent = min(time.monotonic() - began[0], time.process_time() - began[1])
    said = {"seconds": spent, "growth": _memory("VmHWM") - before}
    sys.stdout.flush()
    sys.stderr.flush()
    shown.seek(0)
    return {**said, "status": status, "shown": shown.read().decode(errors="replace")}


def _send_output(file):
    """Send what the process and its libraries write into a file."""
    os.dup2(file, 1)
    os.dup2(file, 2)


def _memory(name):
    """Return a number of this process in bytes: `VmRSS`, its peak `VmHWM`, or `VmSize`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
