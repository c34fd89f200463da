"""An S3 server of moto in a process of its own, on loopback, that answers slowly, refuses or lists too little if told.

``python tests/object_store.py`` prints its port. Tests use the fixture ``object_store`` of ``tests/conftest.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

KEY, SECRET = "AKIATESTONLYNOTAKEY0", "test/only+Secret0That1Never2May3Appear44"
_EMPTY = b"""<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"""


class Faults:
    """Stands before moto. Faults are set by a POST of JSON to ``/-/faults``: all that is not named ends.

    ``latency`` seconds before each answer; ``busy`` share of requests that get 503 SlowDown; ``busy_next`` number of
    such; ``refuse`` an error code for every request, ``refuse_writes`` for those that change something; ``stale``:
    lists are empty; ``lose_answers`` number of writes that succeed but whose answer is 503. A GET counts the requests.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]):
        self.application, self.faults, self.lock = application, dict[str, Any](), threading.Lock()
        self.count: Counter[str] = Counter()
        self.requests = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, method, query = environ["PATH_INFO"], environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        if path == "/-/faults":
            if method == "POST":
                self.faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.count).encode()]
        with self.lock:
            self.requests += 1
            self.count[method] += 1
            share = self.faults.get("busy", 0.0)
            busy = share and (self.requests * 0.6180339887) % 1 < share  # evenly spread
            if self.faults.get("busy_next", 0) > 0:
                self.faults["busy_next"] -= 1
                busy = True
        time.sleep(self.faults.get("latency", 0.0))
        code = self.faults.get("refuse") or (self.faults.get("refuse_writes") if method in ("PUT", "POST") else None)
        if busy or code:
            body = environ["wsgi.input"]
            body.read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refusal(environ, start, "SlowDown" if busy else code)
        if self.faults.get("stale") and method == "GET" and "list-type" in query:
            start("200 OK", [("Content-Type", "application/xml")])
            return [_EMPTY]
        if method == "PUT" and self.faults.get("lose_answers", 0) > 0:
            self.faults["lose_answers"] -= 1
            b"".join(self.application(environ, lambda *_: None))
            return _refusal(environ, start, "SlowDown")
        return self.application(environ, start)


_STATUS = {
    "SlowDown": "503 Slow Down", "PermanentRedirect": "301 Moved Permanently", "ExpiredToken": "400 Bad Request",
    "AuthorizationHeaderMalformed": "400 Bad Request",
}  # fmt: skip


def _refusal(environ: dict[str, Any], start: Callable[..., Any], code: str) -> list[bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused {KEY} {SECRET}</Message></Error>".encode()
    text = b"" if environ["REQUEST_METHOD"] == "HEAD" else text
    start(_STATUS.get(code, "403 Forbidden"), [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [text]


class ObjectStore:
    """The server, as tests see it."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, __file__], text=True, **pipes)
        assert self.process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment variables with which a program finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **more,
        }  # fmt: skip

    def faults(self, **faults: Any) -> None:
        """Replace the faults; without any the store works."""
        self._ask(json.dumps(faults).encode())

    def requests(self) -> dict[str, int]:
        """Return how many requests there were so far, by method."""
        return dict(json.loads(self._ask(None)))

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its address."""
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(request).close()
        return f"s3://{name}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _ask(self, content: bytes | None) -> bytes:
        with urllib.request.urlopen(f"{self.endpoint}/-/faults", data=content) as answer:
            return bytes(answer.read())


def main() -> None:
    """Serve until standard input ends, with the program that started this one, however that ends."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    MotoRequestHandler.protocol_version = "HTTP/1.1"
    MotoRequestHandler.log_request = lambda *_, **__: None
    application = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)  # whatever is being answered


if __name__ == "__main__":
    main()
