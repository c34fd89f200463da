"""Watch for AWS's notice that this spot machine will be taken away, and have Ray drain it until then.

``python -m st3sweep.execution.spot_notice --address HEAD:6379`` runs beside Ray on every worker (``cluster.yaml``). It
asks the machine's metadata service (version 2, with a session token) every five seconds, as AWS recommends. Ray drains
a machine when it is told to, and does not ask the cloud itself (2.60).
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

METADATA = "http://169.254.169.254/latest"
POLL_SECONDS = 5.0
_TOKEN_SECONDS = 21_600
_TIMEOUT_SECONDS = 2.0


def deadline(metadata: str = METADATA) -> datetime | None:
    """Return when this machine will be taken away; None without a notice. Raises OSError if nothing answers."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = _fetch(urllib.request.Request(f"{metadata}/api/token", headers=lifetime, method="PUT"))
    ask = urllib.request.Request(
        f"{metadata}/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
    )
    try:
        notice = json.loads(_fetch(ask))
    except urllib.error.HTTPError as error:
        if error.code == 404:  # no notice yet
            return None
        raise
    return datetime.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _fetch(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        return answer.read().decode()


def drain(address: str, until: datetime) -> None:
    """Tell the Ray cluster at ``address`` that this machine ends at ``until``. Raises RuntimeError if it refuses."""
    import ray
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    node = ray.get_runtime_context().get_node_id()
    ray.shutdown()
    client = ray._raylet.GcsClient(address=address)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = client.drain_node(node, reason, "AWS takes this spot machine away", int(until.timestamp() * 1000))
    if not accepted:
        raise RuntimeError(f"Ray does not drain this machine: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Have Ray drain this machine once AWS announces its end.")
    parser.add_argument("--address", required=True, help="of the head, with its port")
    parser.add_argument("--metadata", default=METADATA, help="address of the metadata service")
    arguments = parser.parse_args()
    while (until := _deadline_or_none(arguments.metadata)) is None:
        time.sleep(POLL_SECONDS)
    print(f"this machine ends at {until:%H:%M:%S} UTC", flush=True)
    drain(arguments.address, until)


def _deadline_or_none(metadata: str) -> datetime | None:
    try:
        return deadline(metadata)
    except OSError as error:  # asked again: a service that does not answer once must not end the watch
        print(f"{metadata}: {error}", flush=True)
        return None


if __name__ == "__main__":
    main()
