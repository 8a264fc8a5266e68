#!/usr/bin/env bash
# Submit a run to SLURM:   cluster/submit.sh --config configs/nsd.yaml --shards 8 [--dry-run] [TARGET ...] [-- OPTION ...]
# TARGET is a list of make (demo, the default, or search, stage1, compare, god, all, film, film-all), or a script. Options
# after the two dashes go to every sbatch, such as --partition=gpu --account=lab --constraint=a100. --dry-run prints the
# commands and runs none. --python "COMMAND" runs the scripts with another python (default: .venv/bin/python).
# --resources FILE says what jobs ask for (default: cluster/resources.csv). Give the same command again after a failure:
# what is done is not done again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=("$root/.venv/bin/python") is_dry='' arguments=() config=''
while (($#)); do
    case $1 in
    -h | --help)
        sed -n '2,7s/^# //p' "${BASH_SOURCE[0]}"
        exit
        ;;
    --dry-run) is_dry=1 ;;
    --python)
        eval "python=($2)" # several words, of which those with spaces are quoted
        shift
        ;;
    --) break ;;
    *) if [[ $1 == --config ]]; then config=${2-}; fi; arguments+=("$1") ;;
    esac
    shift
done
if [[ ! $is_dry ]] && ! command -v sbatch >/dev/null; then
    echo "error: there is no sbatch on this machine: run this where SLURM is, or look with --dry-run" >&2
    exit 1
fi
plan=$("${python[@]}" -m minddiffuser.jobs --python "$(printf '%q ' "${python[@]}")" "${arguments[@]}" "$@")
if [[ $is_dry ]]; then
    printf '%s\n' "$plan"
    exit
fi
name=$(sed -n 's/^# \([^/]*\)\/.*/\1/p;q' <<<"$plan")
if queued=$(squeue --noheader --me --format='%i %j' | grep " $name/"); then
    echo "error: jobs of $name are in the queue; wait for them, or end them with:" \
        "scancel $(cut -d ' ' -f 1 <<<"$queued" | cut -d _ -f 1 | sort -u | tr '\n' ' ')" >&2
    exit 1
fi
cd "$root"
eval "$plan"
echo "submitted; look with: squeue --me, or$(printf ' %q' "${python[@]}" -m minddiffuser.status --config "$config")"
