"""A server on this machine that answers as the Hugging Face Hub does, for repositories that lie in folders.

HEAD and GET of /OWNER/NAME/resolve/REVISION/FILE: large files redirect to another address, with their SHA-256 as
X-Linked-Etag; small ones come at once; what is not there is 404 with X-Error-Code, as huggingface_hub wants it.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".bin", ".pth")


@contextmanager
def hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``root/OWNER/NAME/...``; yield the address, and a list that gets the requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            requests.append(f"{self.command} {self.path}")
            asked = re.fullmatch(r"(/cdn)?/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/([\w.-]+)", self.path.partition("?")[0])
            repository = root / asked[2] if asked else root / "missing"
            if not asked or not repository.is_dir():
                return self._send(404, {"X-Error-Code": "RepoNotFound"})
            file = repository / asked[4]
            if not file.is_file():
                return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            content = file.read_bytes()
            digest, told = hashlib.sha256(content).hexdigest(), {"X-Repo-Commit": COMMIT}
            if file.suffix in _LARGE and not asked[1]:
                linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
                return self._send(302, {**told, **linked, "Location": f"{address}/cdn{self.path}"})
            self._send(200, {**told, "ETag": f'"{digest}"'}, content, with_body=with_body)

        def _send(self, code: int, headers: dict[str, str], content: bytes = b"", *, with_body: bool = True) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address, requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
