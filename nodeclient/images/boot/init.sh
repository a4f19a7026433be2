#!/bin/busybox sh
# PID 1 of the initramfs: fetch the root, check it against the measured command line, run the Agent.
# Whatever fails ends in power off. There is no shell to fall into, and nothing is asked.
B=/bin/busybox

off() {
    $B echo "sealrun: $1; power off" >/dev/console
    $B poweroff -f
    $B halt -f
    while :; do $B sleep 1; done
}

$B mount -t proc proc /proc || off "no /proc"
$B mount -t sysfs sysfs /sys || off "no /sys"
$B mount -t devtmpfs dev /dev || off "no /dev"
echo 0 >/proc/sys/kernel/sysrq
echo 1 >/proc/sys/kernel/panic

# What the hardware names, and no other: each costs time. Twice: behind virtio's PCI device is
# another one. r8169 wants its PHY's driver beforehand, which its hardware does not name.
set -f
load() { $B modprobe -a -q -b "$@" 2>/dev/null; }
named() {
    for bus in pci virtio; do
        for device in $($B ls /sys/bus/$bus/devices 2>/dev/null); do
            read -r alias <"/sys/bus/$bus/devices/$device/modalias" && echo "$alias"
        done
    done
}
case $(named) in *pci:v000010EC*) load realtek ;; esac
load $(named)
load $(named)
load loop squashfs overlay
set +f

# Of all network interfaces the first one with a cable in it.
for name in /sys/class/net/*; do $B ip link set "${name##*/}" up; done
tries=0 interface=
while [ -z "$interface" ] && [ $tries -lt 300 ]; do
    for name in /sys/class/net/*; do
        [ "${name##*/}" = lo ] && continue
        read -r carrier <"$name/carrier" && [ "$carrier" = 1 ] && interface=${name##*/} && break
    done 2>/dev/null
    tries=$((tries + 1))
    [ -n "$interface" ] || $B usleep 100000
done
[ -n "$interface" ] || off "no cable"
for name in /sys/class/net/*; do
    case ${name##*/} in lo | "$interface") ;; *) $B ip link set "${name##*/}" down ;; esac
done
$B udhcpc -f -n -q -t 20 -T 1 -i "$interface" -s /bin/lease >/dev/null 2>&1 || off "no address"

root=
read -r line </proc/cmdline
for word in $line; do
    case $word in sealrun.root=*) root=${word#*=} ;; esac
done
[ ${#root} = 64 ] || off "no root on the command line"

$B mount -t tmpfs -o size=80%,mode=0700 root /fetched || off "no memory"
# Hashed while it arrives: what is hashed is what tee has written, and a write that fails fails all.
set -o pipefail
hash=$($B wget -q -O - "http://@HOST@:@PORT@@PATH@" | $B tee /fetched/root.squashfs | $B sha256sum) ||
    off "no root"
[ "${hash%% *}" = "$root" ] || off "not the root that was measured"

$B mount -t squashfs -o ro,loop /fetched/root.squashfs /lower || off "the root is no squashfs"
$B mount -t tmpfs -o size=20%,mode=0755 upper /upper || off "no memory"
$B mkdir /upper/data /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /new ||
    off "no overlay"
$B mount -t tmpfs -o mode=0755,nosuid,nodev run /new/run || off "no memory"
$B mkdir -m 0700 /new/run/sealrun
for point in dev proc sys; do $B mount --move /$point /new/$point || off "cannot move /$point"; done
$B mount --move /fetched /new/run/sealrun || off "cannot move the root"
exec $B switch_root /new /usr/bin/python3 -I -B -m agent.init
off "the Agent cannot be started"
