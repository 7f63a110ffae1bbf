"""A web server on this machine, with the faults that real ones have."""

import contextlib
import http.server
import threading
from urllib.parse import unquote


class Server:
    """Serves bytes by path and notes what was asked.

    Attributes:
        files: dict from path to bytes.
        asked: list of paths.
        length: bool, or int. Whether the size is told; a number is told in its place.
        status: int. Answered in place of every file.
        cut: int. Bytes after which the connection is closed.
        silent: int. Bytes after which nothing comes any more; `-1` for no answer at all.
        redirect: str. Where every request is sent on to.
        gate: `threading.Event`. What a file waits for before its last byte.
    """

    def __init__(self):
        self.files, self.asked, self.url = {}, [], ""
        self.length, self.status = True, None
        self.cut = self.silent = self.redirect = None
        self.gate, self.ends = threading.Event(), threading.Event()
        self.gate.set()


def handler(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            server.asked.append(unquote(self.path))
            if server.silent == -1:
                server.ends.wait()
                return
            if server.redirect:
                self.send_response(302)
                self.send_header("Location", server.redirect)
                self.end_headers()
                return
            content = server.files.get(unquote(self.path))
            if server.status or content is None:
                self.send_error(server.status or 404)
                return
            self.send_response(200)
            if server.length:
                told = len(content) if server.length is True else server.length
                self.send_header("Content-Length", str(told))
            self.end_headers()
            stop = min(n for n in (server.cut, server.silent, len(content)) if n is not None)
            self.wfile.write(content[: max(stop - 1, 0)])
            server.gate.wait()
            self.wfile.write(content[max(stop - 1, 0) : stop])
            if server.silent is not None:
                server.ends.wait()

    return Handler


class Running(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request, client_address):
        pass  # whoever asked has gone; the test looks at what came


@contextlib.contextmanager
def serving():
    """Yield a `Server` that runs until the block ends; `url` is its address."""
    server = Server()
    with Running(("127.0.0.1", 0), handler(server)) as running:
        server.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.ends.set()
            running.shutdown()
            thread.join()
