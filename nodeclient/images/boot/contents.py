"""Which Debian packages a boot image is made of, and what for; boot.lock has their versions."""

from __future__ import annotations

KERNEL_PREFIX = "linux-image-"
KERNEL = f"{KERNEL_PREFIX}amd64"  # names the release's kernel package, which the lock then names
BUSYBOX = "busybox-static"
STUB = "systemd-boot-efi"

# In the root, each followed by the libraries that it needs. `check_libraries` finds a missing one.
ROOT = (
    *("libc6", "libgcc-s1"),
    *("python3-minimal", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libssl3", "libffi8", "zlib1g", "libbz2-1.0", "liblzma5", "libexpat1", "libuuid1"),
    *("docker.io", "libdevmapper1.02.1", "libudev1", "libselinux1", "libpcre2-8-0"),
    *("libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "libzstd1"),
    *("containerd", "runc", "libseccomp2"),
    *("kmod", "libkmod2", "mount", "libmount1", "libblkid1"),
    *("e2fsprogs", "libext2fs2", "libcom-err2"),
)
# Only while building: these programs and libraries, and those of the root.
TOOLS = ("squashfs-tools", "liblzo2-2", "zstd")

PACKAGES = (*ROOT, *TOOLS, BUSYBOX, STUB)
