"""A host app that embeds the actor system: starts it, serves requests over HTTP, shuts down cleanly on SIGTERM.

    python examples/host_app.py 8080        serves on 127.0.0.1:8080 until SIGTERM or SIGINT
    curl -N '127.0.0.1:8080/?session=a&ask=Hello'

    python examples/host_app.py             serves on a free port, asks itself two questions, and ends itself with SIGTERM

Each answer goes on to the browser as server-sent events, the provider's own JSON, while it comes. One client serves all
threads. A browser that leaves in the middle cancels its request: its thread leaves the `with` block.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import urllib.request
from collections import defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from _provider import Item, Provider, errors_in_one_line, provider

from pixir_actors import Client, Data, PixirError, Settings, StreamError


class Session:
    """One conversation. The lock is held for a whole turn: the next question's history includes its answer."""

    def __init__(self) -> None:
        self.history: list[Item] = []
        self.lock = threading.Lock()


class HostApp(ThreadingHTTPServer):
    """Conversations by name, kept in memory."""

    daemon_threads = False  # so that server_close() waits for the requests that are under way

    def __init__(self, port: int, client: Client, there: Provider) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.client, self.provider = client, there
        self.sessions: defaultdict[str, Session] = defaultdict(Session)


class Handler(BaseHTTPRequestHandler):
    """One request: a question to a session."""

    server: HostApp

    def do_GET(self) -> None:
        """Answer a question with a stream of events, or with a status that says why not."""
        query = parse_qs(urlsplit(self.path).query)
        key, asked = query.get("session", ["default"])[0], query.get("ask", [""])[0]
        session = self.server.sessions[key]
        try:
            with session.lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._answer(key, session, asked)
        except StreamError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, error, error.retry_after)
        except PixirError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, error, None)

    def _answer(self, key: str, session: Session, asked: str) -> None:
        history = [*session.history, {"role": "user", "content": asked}]
        with self.server.client.stream(key, self.server.provider.request(history)) as stream:
            for event in stream:
                if isinstance(event, Data):
                    self._begin()
                    self.wfile.write(event.sse)
            stream.raise_for_failure()
        session.history = history + stream.output

    _begun = False

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()

    def _refuse(self, status: HTTPStatus, error: PixirError, retry_after: float | None) -> None:
        """Say no with a status; once events have gone out, all that is left is to end the response."""
        if self._begun:
            return
        body = f"{error}\n".encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(max(1, round(retry_after))))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the path holds what was asked."""


def ask_itself(port: int) -> None:
    """Be one's own browser, and then one's own service manager."""
    for question in ("Hello", "And good bye"):
        query = urlencode({"session": "a", "ask": question})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{query}", timeout=60) as response:
            events = response.read().count(b"data: ")
        print(f"{question!r} was answered with {events} events", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def main(port: int | None) -> None:
    """Serve until a signal comes."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    # A request that outlives this limit would hold up the shutdown.
    settings = Settings(timeout=120)
    with provider() as there, Client.embedded(settings=settings) as client:
        try:
            app = HostApp(port or 0, client, there)
        except (OSError, OverflowError) as error:
            sys.exit(f"cannot serve on port {port}: {error}")
        serving = threading.Thread(target=app.serve_forever, name="http")
        serving.start()
        print(f"serving on http://127.0.0.1:{app.server_port}", flush=True)
        if port is None:
            threading.Thread(target=ask_itself, args=(app.server_port,), daemon=True).start()
        stopped.wait()
        app.shutdown()  # no new requests
        serving.join()
        app.server_close()  # waits for those under way
    # The client has ended its actor system: no process of it is left.
    print("stopped", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve answers over HTTP; without a PORT, visit it and end.")
    parser.add_argument("port", nargs="?", type=int, metavar="PORT")
    with errors_in_one_line():
        main(parser.parse_args().port)
