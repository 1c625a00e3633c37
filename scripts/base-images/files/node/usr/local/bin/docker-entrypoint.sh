#!/bin/sh
# Takes options, a script, or anything that is no command as arguments of node.
set -e

if [ "${1#-}" != "${1:-}" ] || ! command -v "${1:-}" >/dev/null || { [ -f "$1" ] && [ ! -x "$1" ]; }; then
    set -- node "$@"
fi

exec "$@"
