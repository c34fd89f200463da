"""Stand in for the agent of Ray's dashboard, which a node must have; the raylet runs this file in its place.

Only the standard library is imported: Ray's agent imports Ray and a web server, for two CPU-seconds, to report to a
dashboard that a sweep on one machine does not start. This one says where the agent does not listen, as Ray's does
without its optional dependencies, and lives as long as the raylet.
"""

from __future__ import annotations

import os
import sys
import time

UNUSED = "-1"  # no port
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")


def main(arguments: list[str]) -> None:
    """Write the files by which the raylet learns the agent's ports, and wait for its end.

    ``arguments`` are the path of Ray's own agent and what Ray passes to it. Where another version of Ray passes other
    names, that agent is run.
    """
    given = dict(word[2:].split("=", 1) for word in arguments if word.startswith("--") and "=" in word)
    if not {"session-dir", "node-id"} <= given.keys():
        os.execv(sys.executable, [sys.executable, "-u", *arguments])
    for name in PORTS:
        path = os.path.join(given["session-dir"], f"{name}_{given['node-id']}")
        with open(f"{path}.new", "w") as file:
            file.write(UNUSED)
        os.replace(f"{path}.new", path)
    raylet = os.getppid()
    while os.getppid() == raylet:
        time.sleep(1.0)


if __name__ == "__main__":
    main(sys.argv[1:])
