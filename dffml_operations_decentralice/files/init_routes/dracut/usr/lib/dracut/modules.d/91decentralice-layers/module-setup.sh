#!/bin/bash
# dracut's module for a root of layers, https://github.com/dracut-ng/dracut-ng

check() {
    require_binaries mount mountpoint
}

depends() {
    echo systemd-initrd
}

installkernel() {
    hostonly='' instmods overlay
}

install() {
    inst_multiple mkdir ln mount mountpoint
    inst_simple "$moddir/layers.sh" /usr/bin/decentralice-layers
    inst_simple "$moddir/layers.service" \
        "$systemdsystemunitdir/decentralice-layers.service"
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target \
        decentralice-layers.service
}
