"""A model hub on loopback with the routes that a download uses; tests stop it to be offline."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@dataclass
class FakeHub:
    """A hub. `repos` maps `org/name` to content by file name; `served` lists the requested files."""

    repos: Mapping[str, Mapping[str, bytes]]
    url: str = ""
    served: list[str] = field(default_factory=list)

    def api(self, path: str) -> bytes | None:
        """The answer to `/api/models/<org/name>/revision/<revision>`."""
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repo not in self.repos or revision not in {"", "main", COMMIT}:
            return None
        siblings = [{"rfilename": name} for name in self.repos[repo]]
        return json.dumps({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}).encode()

    def file(self, path: str) -> bytes | None:
        """The answer to `/<org/name>/resolve/<commit>/<file>`."""
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        return self.repos.get(repo, {}).get(rest.partition("/")[2])


@contextmanager
def fake_hub(repos: Mapping[str, Mapping[str, bytes]]) -> Iterator[FakeHub]:
    """Serves `repos` until the block ends."""
    hub = FakeHub(repos)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Serves files with their ETag and commit, and repository facts as JSON."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            is_api = self.path.startswith("/api/")
            path = self.path.partition("?")[0]
            body = hub.api(path) if is_api else hub.file(path)
            self.send_response(404 if body is None else 200)
            if body is None:
                self.send_header("X-Error-Code", "RepoNotFound" if is_api else "EntryNotFound")
            content = body or b""
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                hub.served += [] if is_api else [path.rpartition("/")[2]]
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    return Handler
