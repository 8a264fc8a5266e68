#!/usr/bin/env bash
# A SLURM of one machine, for tests: onehost.sh start | stop. Needs root on Debian or Ubuntu; installs slurm-wlm if it is
# absent. There is no database and no container of jobs; two plain files are its GPUs. It is as large as the machine.
#
# Its configuration must be in /etc/slurm, where Snakemake's jobs look too; one that is there already, and is not ours,
# is left alone: then nothing is started.
set -euo pipefail
state=/var/tmp/minddiffuser-slurm conf=/etc/slurm/slurm.conf mark="# by tests/slurm/onehost.sh"
host=$(hostname -s)

start() {
    if [[ $(id -u) != 0 ]]; then
        echo "only root can start SLURM here" >&2
        return 1
    fi
    if [[ -e $conf ]] && ! grep -qF "$mark" "$conf" && sinfo >/dev/null 2>&1; then
        echo "a SLURM that is not ours is here: it is used as it is"
        return
    fi
    if ! command -v slurmctld >/dev/null; then
        local install="apt-get install -y -qq --no-install-recommends slurm-wlm munge"
        export DEBIAN_FRONTEND=noninteractive
        $install >/dev/null || { apt-get update -qq && $install >/dev/null; }
    fi
    rm -rf "$state"
    mkdir -p "$state"/{controller,node,log,pid} /run/munge /etc/slurm
    chown munge: /run/munge
    touch "$state"/gpu{0,1}
    local memory
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat >"$conf" <<CONF
$mark
ClusterName=onehost
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/pid/slurmctld
SlurmdPidFile=$state/pid/slurmd
SlurmctldLogFile=$state/log/slurmctld
SlurmdLogFile=$state/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory Gres=gpu:pretended:2 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    echo "NodeName=$host Name=gpu Type=pretended File=$state/gpu[0-1]" >/etc/slurm/gres.conf
    echo "CgroupAutomount=no" >/etc/slurm/cgroup.conf
    su -s /bin/sh munge -c "/usr/sbin/munged --force"
    slurmctld
    sleep 1
    slurmd
    for _ in {1..20}; do
        if [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]]; then
            sinfo --format="%P %D nodes, %t, %c CPUs, %m MB, %G"
            return
        fi
        sleep 0.5
    done
    echo "SLURM does not get ready:" >&2
    tail -n 3 "$state"/log/* >&2
    return 1
}

# Ends the daemons that `start` started, and no others.
stop() {
    local pid
    for pid in "$state"/pid/slurmd "$state"/pid/slurmctld; do
        if [[ -s $pid ]]; then kill "$(cat "$pid")" || true; fi
    done
    if [[ -d $state && -s /run/munge/munged.pid ]]; then kill "$(cat /run/munge/munged.pid)" || true; fi
    if [[ -e $conf ]] && grep -qF "$mark" "$conf"; then rm -f "$conf" /etc/slurm/gres.conf /etc/slurm/cgroup.conf; fi
    rm -rf "$state"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
    echo "usage: $0 start | stop" >&2
    exit 2
    ;;
esac
