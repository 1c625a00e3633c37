#!/bin/sh
# Fills the templates in with the environment:
#   NGINX_ENVSUBST_TEMPLATE_DIR      where they are               /etc/nginx/templates
#   NGINX_ENVSUBST_TEMPLATE_SUFFIX   how their names end          .template
#   NGINX_ENVSUBST_OUTPUT_DIR        where the results go         /etc/nginx/conf.d
#   NGINX_ENVSUBST_FILTER            which variables, a regex     all
set -e

log() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$(basename "$0"): $*"
}

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
stream_suffix=${NGINX_ENVSUBST_STREAM_TEMPLATE_SUFFIX:-.stream-template}

[ -d "$templates" ] || exit 0

# Only variables that exist: `$host` and the like are nginx's own and stay.
variables=$(awk -v filter="${NGINX_ENVSUBST_FILTER:-}" 'BEGIN {
    for (name in ENVIRON) if (name ~ filter) printf "${%s} ", name
}' </dev/null)

if [ -n "$(find -L "$templates" -type f -name "*$stream_suffix" -print -quit)" ]; then
    echo "$(basename "$0"): error: this nginx has no stream module; *$stream_suffix cannot be used" >&2
    exit 1
fi

find -L "$templates" -type f -name "*$suffix" -print | sort | while IFS= read -r template; do
    relative=${template#"$templates"/}
    result=$output/${relative%"$suffix"}
    if [ ! -w "$output" ]; then
        echo "$(basename "$0"): error: $output cannot be written; $template is not used" >&2
        exit 0
    fi
    mkdir -p "$(dirname "$result")"
    log "$template to $result"
    envsubst "$variables" <"$template" >"$result"
done
