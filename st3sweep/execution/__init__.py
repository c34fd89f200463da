"""Run a sweep on Ray: Tune gives proposed trials to warm slots, and a ledger records their results.

Only the modules of this package import Ray; importing the package itself does not.
"""

import os

# Ray reads these on import, here and in its workers. Settings of the user take precedence.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves one actor per slot
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # instead of 2: the end or loss of a worker is seen sooner
    "RAY_prestart_worker_first_driver": "0",  # no actor of a slot could use those processes
    "RAY_task_events_report_interval_ms": "0",  # a tenth of a call's time, for views of tasks that are never opened
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the log
    "RAY_AIR_NEW_OUTPUT": "0",  # reporting/ writes the output
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",  # the slots need that many
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # runner.py handles SIGINT
}.items():
    os.environ.setdefault(_name, _value)
