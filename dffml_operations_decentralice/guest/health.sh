# One JSON document about the system it runs on, then power off. Given to `sh` by a port
# which has no end of file, after a line `limit=SECONDS` and a function `checks`.
#
# Needs sh, coreutils (or busybox) and systemd. Values are what commands say, in
# Base64: the document is well-formed whatever they say, and made sense of outside.
port=/dev/virtio-ports/decentralice.health
export LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER= TERM=dumb

field() { # NAME COMMAND [ARGUMENT ...]
    printf ',"%s":"' "$1"
    shift
    # Unquoted: printf joins the lines of Base64
    # shellcheck disable=SC2046
    printf '%s' $("$@" 2> /dev/null < /dev/null | base64)
    printf '"'
}

check() { # COMMAND: of a setting, in a shell of its own, behind a byte that nobody says
    printf '\001'
    (eval "$1")
}

has() { command -v "$1" > /dev/null 2>&1; }

show() { # PROPERTIES UNIT ...
    properties=$1
    shift
    systemctl show --property="$properties" -- "$@"
}

get() { # PATH: from the SSI service, with the head of the response
    exec 2>&1
    if has curl; then
        curl --silent --show-error --include --http1.0 --max-time "$limit" \
            "http://127.0.0.1:3000$1"
    elif has bash; then
        # shellcheck disable=SC2016
        timeout "$limit" bash -c 'exec 3<> /dev/tcp/127.0.0.1/3000 &&
            printf "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" "$1" >&3 &&
            cat <&3' get "$1"
    elif has wget; then
        wget -q -O - "http://127.0.0.1:3000$1"
    else
        echo "no curl, bash or wget to ask with"
    fi
}

online() { # DHCP may still be at work when the boot is done
    wait=/usr/lib/systemd/systemd-networkd-wait-online
    if [ -x $wait ] && systemctl --quiet is-active systemd-networkd.service; then
        timeout "$limit" $wait --any --operational-state=routable --timeout=15
    fi
}

links() {
    online > /dev/null 2>&1
    has networkctl && networkctl list --json=short
}

automounts() { # gpt-auto mounts the ESP when it is looked at
    for directory in /boot /efi; do
        ls "$directory" > /dev/null 2>&1
    done
    cat /proc/self/mounts
}

report() {
    printf '{"format":1'
    field state systemctl is-system-running
    field failed systemctl list-units --failed --all --output=json
    field jobs systemctl list-jobs --no-legend
    field units show Id,LoadState,ActiveState,SubState,Result,NRestarts \
        ssi-service.service ssi-service.socket systemd-networkd.service \
        systemd-resolved.service systemd-udevd.service systemd-journald.service \
        dbus.service serial-getty@ttyS0.service
    field readiness get /readiness
    field times systemctl show --property=FirmwareTimestampMonotonic,\
LoaderTimestampMonotonic,InitRDTimestampMonotonic,UserspaceTimestampMonotonic,\
FinishTimestampMonotonic
    field targets show Id,ActiveEnterTimestampMonotonic local-fs.target \
        sysinit.target basic.target network.target multi-user.target
    field links links
    field mounts automounts
    field swaps cat /proc/swaps
    field pid1 readlink /proc/1/exe
    field systemd systemctl --version
    field os_release cat /etc/os-release
    field kernel uname -r
    field cmdline cat /proc/cmdline
    field hostname uname -n
    field motd cat /etc/motd
    field resolv_conf cat /etc/resolv.conf
    for table in tcp tcp6 udp udp6; do
        field "$table" cat "/proc/net/$table"
    done
    field memory cat /proc/meminfo
    field tainted cat /proc/sys/kernel/tainted
    field errors journalctl --boot --priority=err --no-pager --quiet \
        --output=cat --lines=200
    field checks checks
    printf '}\n'
}

main() {
    # Says "running" or "degraded"; what it is after the limit, `report` tells
    timeout "$limit" systemctl is-system-running --wait > /dev/null 2>&1
    report > "$port"
    systemctl poweroff --no-block
}

# On one line: what follows might be read too late, or never
main; exit
