# Boots Debian in the namespaces of a lab's node: $1 is the machine's name, $2 the
# file system that machines share, $3 what is this machine's own.
set -eu
mount -t proc proc /proc
# The lab has put a /sys without control groups above the host's.
umount -R /sys
for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
	if [ -e $tree/cgroup.procs ]; then
		mkdir -p "$tree/$1"
		echo 0 >"$tree/$1/cgroup.procs"
	fi
done
mkdir -p "$3/changes" "$3/work" "$3/root"
mount -t overlay -o "lowerdir=$2,upperdir=$3/changes,workdir=$3/work" overlay "$3/root"
exec systemd-nspawn --quiet --directory "$3/root" --machine "$1" --boot --register=no --keep-unit \
	--console=pipe --network-namespace-path=/proc/self/ns/net \
	--capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON --system-call-filter=bpf
