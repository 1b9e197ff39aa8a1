#!/bin/bash
# What a box does first, in namespaces of its own: put its file system together, take its name, and stay.
#   boot.sh DISK NAME        PROGRAM, CONTROLLERS, HIDES: words, from the environment
set -eu
disk=$1 name=$2 root=$1/root
mount --bind "$root" "$root"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$disk/upper,workdir=$disk/work" "$root/usr"
mount --bind "$disk/local" "$root/usr/local"
for hidden in $HIDES; do rm -f "$root/usr/$hidden"; done
find "$root/tmp" "$root/run" -mindepth 1 -delete
mkdir -m 755 "$root/run/sshd"
mkdir -m 1777 "$root/run/lock"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"

control_groups() {
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for one in $CONTROLLERS; do
        mkdir "$root/sys/fs/cgroup/$one"
        [ "$one" = systemd ] && which=none,name=systemd || which=$one
        mount -t cgroup -o "$which" cgroup "$root/sys/fs/cgroup/$one"
    done
}
devices() {
    while read -r device major minor; do
        mknod -m 666 "$root/dev/$device" c "$major" "$minor"
    done <<'LIST'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
fuse 10 229
LIST
    mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t mqueue mqueue "$root/dev/mqueue"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for k in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${k%:*}" "$root/dev/${k#*:}"; done
}

if [ -n "$CONTROLLERS" ]; then control_groups; else mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"; fi
devices
[ ! -x "$disk/at-boot" ] || "$disk/at-boot" "$root"
if [ -n "$PROGRAM" ]; then
    prefix=${PROGRAM%/*/*}
    case "$prefix" in /usr | /usr/local) ;; *) mkdir -p "$root$prefix"; mount --rbind "$prefix" "$root$prefix" ;; esac
    ln -sf "$PROGRAM" "$root/usr/local/bin/${PROGRAM##*/}"
fi
hostname "$name"
# Not chroot alone: the kernel lets nobody make a user namespace within one (user_namespaces(7)).
cd "$root"
pivot_root . .
umount -l .
cd /
mount --make-rshared /  # as systemd does
exec /usr/bin/tini -- sleep infinity
