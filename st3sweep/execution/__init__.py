"""The sweep: Optuna proposes trials, Ray Tune hands them to warm slots, a ledger keeps what came of them.

Only the modules of this package import Ray and Optuna; importing the package itself imports neither.
"""

import os

# Read by Ray when it is imported, here and in its workers. A user's own setting wins.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves an actor a slot
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the log
    "RAY_AIR_NEW_OUTPUT": "0",  # progress.py is the output
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",  # as many as the slots need
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # runner.py has its own
}.items():
    os.environ.setdefault(_name, _value)
