"""Write the report of runs to one HTML file, or serve it while a sweep runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from st3sweep.reporting.console import say, short, warn
from st3sweep.util.errors import UserError

REPORT = "report.html"


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one or several runs to ``out``, by default report.html in the run's folder; return its path.

    Of several runs the default is in the working directory. Raises UserError where a run has no tables, or the file
    cannot be written.
    """
    path = out or (folders[0] if len(folders) == 1 else Path()) / REPORT
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: must end in .html")
    from st3sweep.analysis.report.data import report_data
    from st3sweep.analysis.report.page import write_page

    data = report_data(*folders)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(data, path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from None
    return path


def write_report_of_run(folder: Path) -> None:
    """Write the report into a run's folder when it ends; where that fails, warn: a report ends no command."""
    try:
        write_report([folder])
    except UserError as error:
        warn(str(error))
    except Exception as error:
        warn(f"{short(folder / REPORT)}: not written ({type(error).__name__}: {error})")


def watch_report(folders: Sequence[Path], port: int = 0) -> None:
    """Serve the report on 127.0.0.1 until the program is interrupted; it follows the runs as trials end.

    ``port`` 0 takes a free one. Raises UserError where a run does not exist, or the port is taken.
    """
    from st3sweep.commands.report_server import LiveReport, server

    report = LiveReport(folders)
    try:
        serving = server(report, port)
    except OSError as error:
        raise UserError(f"--port {port}: cannot be used ({error.strerror})") from None
    with serving:
        say(f"report: http://127.0.0.1:{serving.server_address[1]}/ (Ctrl-C ends it)")
        try:
            serving.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("the report is no longer served")
