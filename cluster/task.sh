#!/usr/bin/env bash
# Run one task of a job:   task.sh FOLDER TASK COMMAND...
# TASK is "whole", "joined", or a shard such as "@-of-4", where @ is the number of the task in its array. FOLDER gets a
# record, TASK.json, which says when the task began, ended, and how: python -m minddiffuser.status reads it. SIGTERM goes
# to the command; if that kept what it had in hand (exit code 75), SLURM is asked to start the task again.
set -u
folder=$1 task=${2/@/${SLURM_ARRAY_TASK_ID:-}}
shift 2
if [[ $task == *-of-* ]]; then set -- "$@" --shard "$task"; fi
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
job=${job:-${SLURM_JOB_ID:-}}

record() { # ENDED EXIT
    printf '{"job": "%s", "host": "%s", "began": %s, "ended": %s, "exit": %s, "restarts": %s}\n' \
        "$job" "$(hostname)" "$began" "$1" "$2" "${SLURM_RESTART_COUNT:-0}" >"$folder/.$task.$$.json"
    mv "$folder/.$task.$$.json" "$folder/$task.json"
}

mkdir -p "$folder"
began=$(date +%s.%3N) asked= child=
record null null
echo "== $(date '+%F %T') on $(hostname)${job:+, job $job}: $*"
trap 'asked=1; kill -TERM "$child" 2>/dev/null' TERM
"$@" &
child=$!
wait "$child"
code=$?
while [[ $asked ]]; do # the signal ended the waiting, not the command
    asked=
    wait "$child"
    code=$?
done
record "$(date +%s.%3N)" "$code"
if [[ $code == 75 && $job ]]; then scontrol requeue "$job"; fi
exit "$code"
