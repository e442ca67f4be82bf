# shellcheck shell=sh
# Boots a host: boot.sh LAYERS FOLDER NETWORK GROUP WORKSPACE [ARGUMENTS OF SYSTEMD-NSPAWN]
#
# It runs in a mount namespace of its own, so nothing that is mounted here is seen by anybody else
# or outlives the host. FOLDER/upper keeps what the host writes.
set -eu

layers=$1 folder=$2 network=$3 group=$4 workspace=$5
shift 5

mount -t overlay overlay \
    -o "lowerdir=$layers,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"

# systemd from 258 on does not boot where the old kind of control groups is mounted.
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup

# What systemd-nspawn notes about a host, under a name that all of these hosts share.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd

# Groups cannot be removed by the host that is in them; those of hosts that are over are empty.
for old in /sys/fs/cgroup/holistics-lab-*; do
    [ -d "$old" ] || continue
    owner=${old#/sys/fs/cgroup/holistics-lab-}
    if [ ! -d "/proc/${owner%%-*}" ] || [ "${owner%%-*}" = "${group%%-*}" ]; then
        find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
done

# A group of its own: two hosts in one would take each other's services for theirs. Until somebody
# is in it, another host that boots may take it for one that is over.
own=/sys/fs/cgroup/holistics-lab-$group
attempts=0
until mkdir -p "$own" && echo $$ >"$own/cgroup.procs"; do
    attempts=$((attempts + 1))
    [ "$attempts" -lt 10 ]
done

# The host outlives systemd-nspawn if that is killed. By this variable of its first process, the
# workspace's guard finds it.
exec systemd-nspawn --setenv=HOLISTICS_LAB="$workspace" --quiet --register=no --keep-unit --boot --console=pipe \
    --directory="$folder/root" --network-namespace-path="$network" \
    --resolv-conf=off --timezone=off --link-journal=no "$@"
