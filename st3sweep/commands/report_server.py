"""Serve the report of runs to a browser on this machine, and keep it current while a sweep runs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.report.page import render
from st3sweep.runs.bring import local_run
from st3sweep.runs.folder import existing_run, holder
from st3sweep.runs.manifest import MANIFEST
from st3sweep.runs.tables import SCHEMAS, table_path
from st3sweep.util.errors import UserError
from st3sweep.util.text import json_line

_LOOPBACK = "127.0.0.1"


class LiveReport:
    """The report's data, gathered again only when a table of a run was written anew. Safe among threads."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = [existing_run(folder) for folder in folders]
        self._lock = threading.Lock()
        self._seen: list[tuple[int, int] | None] | None = None
        self._data: dict[str, Any] = {}
        self._tag = ""

    def latest(self) -> tuple[dict[str, Any], str]:
        """Return the data and a tag that changes with them."""
        with self._lock:
            for folder in self.folders:
                with suppress(UserError):  # an object store that cannot be reached: what is here is shown
                    local_run(folder)
            seen = [_version(path) for folder in self.folders for path in _tables(folder)]
            if seen != self._seen:
                self._data, self._seen = report_data(*self.folders, missing_ok=True, brief=True), seen
                self._tag = f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"'
            return self._data, self._tag

    @property
    def state(self) -> str:
        """Return ``running`` while a program runs one of the sweeps."""
        return "running" if any(holder(folder) for folder in self.folders) else "the sweep has ended"


def server(report: LiveReport, port: int) -> ThreadingHTTPServer:
    """Return a server of ``report`` on the loopback address. Raises OSError if the port cannot be used."""
    made = ThreadingHTTPServer((_LOOPBACK, port), partial(_Handler, report))
    made.daemon_threads = True
    return made


class _Handler(BaseHTTPRequestHandler):
    """Answers for the page and its data, and for nothing else."""

    def __init__(self, report: LiveReport, *args: Any):
        self.report = report
        super().__init__(*args)

    def do_GET(self) -> None:
        # Another site whose name leads to this address must not read the report.
        name = self.headers.get("Host", "").partition(":")[0]  # no port where that is 80
        if name not in (_LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._answer(render(self.report.latest()[0], live=True), "text/html")
        elif self.path == "/data.json":
            data, tag = self.report.latest()
            if self.headers.get("If-None-Match") == tag:
                self._answer("", "application/json", tag, HTTPStatus.NOT_MODIFIED)
            else:
                self._answer(json_line(data), "application/json", tag)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, text: str, kind: str, tag: str = "", status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode(errors="backslashreplace")
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Run-State": self.report.state,
            **({"ETag": tag} if tag else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing for each request."""


def _tables(folder: Path) -> list[Path]:
    """Return the files of which at least one is written anew whenever a table of the run is."""
    return [folder / MANIFEST, *(table_path(folder, name) for name in SCHEMAS)]


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
