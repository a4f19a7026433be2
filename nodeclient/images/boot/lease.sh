#!/bin/busybox sh
# Called by udhcpc with what the Pi offers. Another address than the Machine's is no lease.
[ "$1" = bound ] || exit 0
[ "$ip" = "@ADDRESS@" ] || exit 1
exec /bin/busybox ip addr add "$ip/@PREFIX@" dev "$interface"
