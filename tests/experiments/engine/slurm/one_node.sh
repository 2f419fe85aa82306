#!/bin/bash
# Run a command beside a SLURM cluster of one node, this one, on loopback; it ends with the command and leaves nothing behind.
#
#     tests/slurm/one_node.sh sbatch --wait job.sh
#
# Needs Debian's slurm-wlm and munge. Runs as any user (jobs are then that user's alone) or as root in a container.
set -euo pipefail

PATH=$PATH:/usr/sbin
for program in munged slurmctld slurmd sbatch sinfo; do
    command -v "$program" >/dev/null || { echo "$program is not installed: apt-get install slurm-wlm munge" >&2; exit 127; }
done

# A socket's path may have 107 characters at most, so this folder is near the root.
folder=$(mktemp -d /tmp/one-node-slurm.XXXXXX)
chmod 755 "$folder"
daemons=()

stop() {
    status=$?
    trap - EXIT INT TERM
    # Latest first: slurmd takes its leave of slurmctld, and both sign what they say by munged.
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
        kill "${daemons[i]}" 2>/dev/null || true
        for _ in {1..100}; do kill -0 "${daemons[i]}" 2>/dev/null || break; sleep 0.1; done
        kill -9 "${daemons[i]}" 2>/dev/null || true
    done
    if [[ $status -ne 0 ]]; then tail -n 20 "$folder"/*.log >&2 || true; fi
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Not the ports that an installed SLURM would use.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do :; done
    echo "$port"
}

mkdir "$folder/state" "$folder/spool"
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 600 "$folder/munge.key"
node=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=one-node
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
# Neither control groups nor other users' processes: a container has the first read-only, and a user may not touch the second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$node Default=YES State=UP
CONF
# Up to version 22 SLURM has no "disabled" here; version 1 of the plug-in touches nothing before a job asks for it.
case $(slurmd -V) in
    *" 2"[0-2].*) echo "CgroupPlugin=cgroup/v1" ;;
    *) echo "CgroupPlugin=disabled" ;;
esac >"$folder/cgroup.conf"

# --force: it would refuse a socket below /tmp, which anybody may write to; the socket's own folder is ours.
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --seed-file="$folder/munge.seed" >"$folder/munged.log" 2>&1 &
daemons+=($!)
for _ in {1..100}; do [[ -S $folder/munge.socket ]] && break; sleep 0.1; done
slurmctld -D -c >"$folder/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D -N "$node" >"$folder/slurmd.log" 2>&1 &
daemons+=($!)

for _ in {1..300}; do
    [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && break
    for daemon in "${daemons[@]}"; do kill -0 "$daemon" 2>/dev/null || { echo "SLURM did not start" >&2; exit 1; }; done
    sleep 0.1
done
[[ $(sinfo --noheader --format=%T) == idle ]] || { echo "SLURM's node did not become idle" >&2; exit 1; }

"$@"
