#!/bin/bash
# One sweep on Slurm: Ray runs on the allocated machines as long as the job does. Submit it from the project's folder, which
# lies on storage that all machines share, after `make quickstart` has made .venv there:
#
#   sbatch docs/clusters/slurm.sh search_spaces/mobilenet.yaml mobilenet --set data.root=/shared/imagenet
#
# The first argument is the search space, the second the run's name; the others go to `st3sweep run`. Five minutes before
# the time limit the sweep stops after its current epochs, and the job queues again and resumes.
# Checked with shellcheck; not run on Slurm yet.
#SBATCH --job-name=st3sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# --exclusive: at its end, Ray stops every Ray process of this user on a machine, also those of another job.
set -euo pipefail

space=$1 name=$2
shift 2
runs=${RUNS:-runs}
export PATH="$PWD/.venv/bin:$PATH"

# The token: readable by this user alone, removed with the job.
umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray_token_$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
trap 'st3sweep stop "$runs/$name" || true' USR1  # then the sweep ends with exit code 130

export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds, instead of 30: imports from shared storage are slow
export RAY_TMPDIR="/tmp/ray_$SLURM_JOB_ID"  # a short path on local disk

if [ -e "$runs/$name/ledger.jsonl" ]; then
    sweep=(st3sweep resume "$runs/$name" --address auto)
else
    sweep=(st3sweep run "$space" --name "$name" --storage "$runs" --address auto "$@")
fi

# By address and not by name: Ray compares it with the addresses of each machine.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | tr ' ' '\n' | grep -v -e '^127\.' -e : | head -n 1)

# In the background, so that bash runs the trap of a signal at once.
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    ray symmetric-run --address "$address:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- "${sweep[@]}" &
running=$!
code=0
wait "$running" || code=$?
while kill -0 "$running" 2> /dev/null; do  # a signal has ended `wait`
    code=0
    wait "$running" || code=$?
done

if [ "$code" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
