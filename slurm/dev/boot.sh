#!/bin/bash
# What a machine does first, in namespaces of its own: make its file system, take its name, and stay.
#   boot.sh HOME NAME ADDRESS        BINDS, HIDES, PROGRAMS, USERS, GPUS, CONTROLLERS: words, from the environment
# The root is an overlay of this machine's `/`: programs are there at once, and what is written is the machine's own.
set -eu
home=$1 name=$2
top=$home/machines/$name root=$home/machines/$name/root
mount -t tmpfs -o size=6g,mode=755 "machine-$name" "$top"
mkdir "$top/upper" "$top/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$root"

file_systems() {
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir -m 755 "$root/run/munge" "$root/run/sshd"
    mkdir -m 1777 "$root/scratch"
}
control_groups() {
    [ -n "$CONTROLLERS" ] || return 0
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for one in $CONTROLLERS; do
        mkdir "$root/sys/fs/cgroup/$one"
        mount -t cgroup -o "$one" cgroup "$root/sys/fs/cgroup/$one"
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
LIST
    mknod -m 666 "$root/dev/fuse" c 10 229  # open to all, as on nodes where users mount images
    for ((k = 0; k < GPUS; k++)); do mknod -m 666 "$root/dev/nvidia$k" c 4 $((10 + k)); done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for k in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${k%:*}" "$root/dev/${k#*:}"; done
}
names() {
    hostname "$name"
    echo "$name" >"$root/etc/hostname"
    cat "$home/etc/hosts" >"$root/etc/hosts"
    for user in $USERS; do
        where=$home/shared/home/${user%:*}
        [ "$name" != laptop ] || where=/home/${user%:*}
        echo "${user%:*}:x:${user#*:}:${user#*:}::$where:/bin/bash" >>"$root/etc/passwd"
        echo "${user%:*}:x:${user#*:}:" >>"$root/etc/group"
        echo "${user%:*}:*:19000:0:99999:7:::" >>"$root/etc/shadow"
    done
}
folders() {
    for hidden in $HIDES; do
        [ ! -d "$root$hidden" ] || mount -t tmpfs -o mode=755,size=1m tmpfs "$root$hidden"
    done
    for shared in $BINDS; do
        mkdir -p "$root$shared"
        mount --rbind "$shared" "$root$shared"
    done
    mkdir -p "$root/usr/local/bin"
    for program in $PROGRAMS; do ln -sf "$program" "$root/usr/local/bin/${program##*/}"; done
}
secrets() {
    install -m 600 "$home/secrets/munge" "$root/run/munge.key"
    rm -f "$root"/etc/ssh/ssh_host_*
    install -m 600 "$home/secrets/host" "$root/etc/ssh/ssh_host_ed25519_key"
    rm -rf "$root/etc/slurm"
    ln -s "$home/etc" "$root/etc/slurm"
}

file_systems
control_groups
devices
names
folders
[ "$name" = laptop ] || secrets
[ ! -x "$home/etc/$name.sh" ] || "$home/etc/$name.sh" "$root"
# Not chroot alone: the kernel lets nobody make a user namespace within one (user_namespaces(7)), and Apptainer needs it.
cd "$root"
pivot_root . .
umount -l .
cd /
exec /usr/bin/tini -- sleep infinity
