#!/bin/sh
# Makes the default server listen on IPv6 too, where the container has IPv6 and the file is as it was shipped.
set -e

log() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$(basename "$0"): $*"
}

conf=/etc/nginx/conf.d/default.conf

if [ ! -f /proc/net/if_inet6 ]; then
    log "there is no IPv6 here"
elif ! [ -w "$conf" ] || ! touch "$conf" 2>/dev/null; then
    log "$conf is missing or cannot be written"
elif ! cmp -s "$conf" /usr/share/nginx/default.conf; then
    log "$conf is not the one of the image; left alone"
else
    # Not `sed -i`, which replaces the file: it may be a mount.
    changed=$(sed 's/^    listen 80;$/&\n    listen [::]:80;/' "$conf")
    printf '%s\n' "$changed" >"$conf"
    log "$conf listens on IPv6 too"
fi
