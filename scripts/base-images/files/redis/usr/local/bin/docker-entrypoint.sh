#!/bin/sh
# Takes options or a configuration file as those of redis-server, and gives up root for it.
set -e

case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis {} +
    exec setpriv --reuid redis --regid redis --clear-groups -- "$0" "$@"
fi

# The data is nobody else's, unless someone has asked for another mask.
if [ "$(umask)" = 0022 ]; then
    umask 0077
fi

exec "$@"
