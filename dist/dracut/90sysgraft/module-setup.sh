#!/bin/bash
# Proves and links extensions before the root file system takes over, so that systemd reads the image
# policy with all its other units. dracut.conf: add_dracutmodules+=" sysgraft "

check() {
    require_binaries sysgraft-agent || return 1
    # Only where it is asked for: the host does the same before it merges.
    return 255
}

depends() {
    echo systemd
}

installkernel() {
    # Certificates of the firmware are variables of it.
    hostonly='' instmods efivarfs
}

# The names of variables are dracut's.
# shellcheck disable=SC2154
install() {
    inst_multiple sysgraft-agent
    inst_simple "$systemdsystemunitdir/sysgraft-sysroot.service"
    "${SYSTEMCTL:-systemctl}" -q --root "$initdir" enable sysgraft-sysroot.service
}
