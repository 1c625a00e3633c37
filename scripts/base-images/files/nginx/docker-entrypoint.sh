#!/bin/sh
# Prepares the configuration with the scripts in /docker-entrypoint.d when the command is nginx, then becomes it.
# NGINX_ENTRYPOINT_QUIET_LOGS: any value keeps this and the scripts from telling what they do.
set -e

log() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

case ${1:-} in
    nginx | nginx-debug)
        # Sorted as versions are, so that 9-x comes before 10-x.
        scripts=$(find -L /docker-entrypoint.d -mindepth 1 -maxdepth 1 -type f 2>/dev/null | sort -V)
        if [ -z "$scripts" ]; then
            log "/docker-entrypoint.d holds no files; the configuration is used as it is"
        fi
        old_ifs=$IFS
        IFS='
'
        for script in $scripts; do
            IFS=$old_ifs
            case $script in
                *.envsh)
                    if [ -x "$script" ]; then
                        log "sourcing $script"
                        # shellcheck source=/dev/null
                        . "$script"
                    else
                        log "ignoring $script: not executable"
                    fi
                    ;;
                *.sh)
                    if [ -x "$script" ]; then
                        log "running $script"
                        "$script"
                    else
                        log "ignoring $script: not executable"
                    fi
                    ;;
                *) log "ignoring $script: neither .sh nor .envsh" ;;
            esac
        done
        IFS=$old_ifs
        log "configuration complete; ready for start up"
        ;;
esac

exec "$@"
