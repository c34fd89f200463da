"""Test that AWS's notice is read as it is served: behind a session token, and absent until there is one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import HTTPError

import pytest

from st3sweep.execution.spot_notice import deadline


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of a machine, as far as it is asked."""

    notice: str | None = None
    status = 404

    def do_PUT(self) -> None:
        known = self.path == "/latest/api/token" and int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21_600
        self.answer(200 if known else 400, "a-session")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-session":
            self.answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.notice is not None:
            self.answer(200, self.notice)
        else:
            self.answer(self.status, "")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/latest"
        server.shutdown()


def test_a_notice_is_read_once_there_is_one(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert deadline(service) is None
    monkeypatch.setattr(Metadata, "notice", '{"action": "terminate", "time": "2026-03-01T08:22:00Z"}')
    assert deadline(service) == datetime(2026, 3, 1, 8, 22, tzinfo=UTC)


def test_a_service_in_trouble_is_not_taken_for_one_without_a_notice(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Metadata, "status", 503)
    with pytest.raises(HTTPError):
        deadline(service)
