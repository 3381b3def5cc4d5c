#!/bin/sh
# Put an overlay of the layers in the root file system in the place of that.
# https://docs.kernel.org/filesystems/overlayfs.html
set -e
layers=/run/layers
mkdir -p "$layers" /run/systemd
# Where systemd looks for the disk behind a root that is no block device: it finds the
# ESP and swap by it
ln -s "/dev/block/$(mountpoint -d /sysroot)" /run/systemd/volatile-root
mount --bind /sysroot "$layers"
below=lowerdir=$layers/wolfi:$layers/fedora
mount -t overlay -o "$below,upperdir=$layers/changes,workdir=$layers/work" root /sysroot
