#!/usr/bin/env bash
# Starts systemd as process 1 of a machine that is a copy of this one for as long as it runs. It has processes, mounts, a network and
# names of its own, and what it writes stays in memory. It is called in namespaces of its own, with an empty directory:
#   unshare --pid --mount --net --uts --ipc --cgroup --fork --kill-child e2e/machine.sh DIRECTORY
set -euo pipefail
work=$1 root=$1/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{root,upper,work}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys" # the kernel is everybody's
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<DEVICES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root"/dev/{pts,shm}
mount -t devpts devpts "$root/dev/pts"
# Nothing of this machine's own starts there.
units=$root/etc/systemd/system
rm -rf "$units"/*.wants
for unit in systemd-modules-load.service systemd-remount-fs.service; do ln -sf /dev/null "$units/$unit"; done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$units/machine.target"
rm -f "$root/var/lib/man-db/auto-update" # packages there make no index of all manual pages, which takes seconds each time
ip link set lo up
cd "$root"
mkdir old
pivot_root . old
umount -l old
exec env -i container=padlock-test PATH="$PATH" /lib/systemd/systemd --system --unit=machine.target --show-status=0
