#!/usr/bin/env bash
# Makes a database cluster in PGDATA if there is none, then becomes the command, which is postgres unless another is given.
#
#   POSTGRES_PASSWORD          of the superuser; required unless POSTGRES_HOST_AUTH_METHOD is trust
#   POSTGRES_USER              name of the superuser: postgres
#   POSTGRES_DB                database that is made: as the superuser
#   POSTGRES_INITDB_ARGS       more arguments for initdb, quoted as for a shell
#   POSTGRES_INITDB_WALDIR     where the log of transactions goes, beside PGDATA
#   POSTGRES_HOST_AUTH_METHOD  how connections over the network prove themselves: as passwords are kept, scram-sha-256
#
# The first three and POSTGRES_INITDB_ARGS may be read from a file instead: POSTGRES_PASSWORD_FILE names it, and so on.
# Then everything in /docker-entrypoint-initdb.d runs once, in the order of its names: *.sh, *.sql, *.sql.gz, *.sql.xz and
# *.sql.zst. A *.sh that is not executable is sourced. Meanwhile the server listens on a socket of its own alone, where
# PGHOST points for the scripts: whoever asks at the usual places hears that it is not ready.
#
# No `set -u`: scripts that are sourced were not written for it.
set -Eeo pipefail

readonly scripts=/docker-entrypoint-initdb.d sockets=/var/run/postgresql

say() {
    printf 'docker-entrypoint: %s\n' "$*"
}

refuse() {
    say "error: $*" >&2
    exit 1
}

# setting NAME [DEFAULT]: NAME gets its value from the environment, the file that NAME_FILE names, or the default
setting() {
    local name=$1 file=$1_FILE
    if [ -n "${!file:-}" ]; then
        [ -z "${!name:-}" ] || refuse "$name and $file are both set; set one of them"
        [ -r "${!file}" ] || refuse "$file names ${!file}, which cannot be read"
        printf -v "$name" '%s' "$(<"${!file}")"
    elif [ -z "${!name:-}" ]; then
        printf -v "$name" '%s' "${2:-}"
    fi
    export "${name?}"
    unset "$file"
}

# What only root can do: directories for the server's user, on volumes that root may have made.
give_directories() {
    local directory
    mkdir -p "$PGDATA" "$sockets"
    chmod 700 "$PGDATA"
    chmod 3777 "$sockets" || true
    for directory in "$PGDATA" "$sockets" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}; do
        mkdir -p "$directory"
        find "$directory" ! -user postgres -exec chown postgres: {} +
    done
}

sql() {
    psql --no-psqlrc --no-password --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"
}

make_cluster() {
    local arguments=()
    if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        refuse "the database is empty and the superuser has no password; set POSTGRES_PASSWORD, or" \
            "POSTGRES_HOST_AUTH_METHOD=trust to let everyone in who reaches the server"
    fi
    eval "arguments=($POSTGRES_INITDB_ARGS)"
    [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || arguments+=(--waldir "$POSTGRES_INITDB_WALDIR")
    if [ -n "$POSTGRES_PASSWORD" ]; then
        initdb --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    else
        initdb --username "$POSTGRES_USER" "${arguments[@]}"
    fi
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption)}" \
        >>"$PGDATA/pg_hba.conf"
}

run_scripts() {
    local script
    for script in "$scripts"/*; do
        case $script in
            *.sh)
                if [ -x "$script" ]; then
                    say "running $script"
                    "$script"
                else
                    say "sourcing $script"
                    # shellcheck source=/dev/null
                    . "$script"
                fi
                ;;
            *.sql) say "running $script" && sql --dbname "$POSTGRES_DB" --file "$script" ;;
            *.sql.gz) say "running $script" && gzip -dc "$script" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) say "running $script" && xz -dc "$script" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) say "running $script" && zstd -dc "$script" | sql --dbname "$POSTGRES_DB" ;;
            "$scripts/*") ;;
            *) say "ignoring $script: neither .sh nor .sql" ;;
        esac
    done
}

# fill COMMAND...: runs what is to be run once, with the server that COMMAND would start
fill() {
    local private outside=${PGHOST-} had_outside=${PGHOST+yes}
    private=$(mktemp -d)
    shift
    pg_ctl --pgdata "$PGDATA" --wait start \
        --options "$(printf '%q ' "$@" -c listen_addresses= -c "unix_socket_directories=$private")"
    export PGHOST=$private
    if [ "$POSTGRES_DB" != postgres ]; then
        sql --dbname postgres --quiet --set "name=$POSTGRES_DB" <<<'CREATE DATABASE :"name";'
    fi
    run_scripts
    pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
    if [ -n "$had_outside" ]; then export PGHOST=$outside; else unset PGHOST; fi
    rm -rf "$private"
}

case ${1:-} in
    -*) set -- postgres "$@" ;;
esac

if [ "${1:-}" = postgres ]; then
    for argument; do
        case $argument in
            -\? | --help | --describe-config | -V | --version | -C) exec "$@" ;;
        esac
    done
    if [ "$(id -u)" = 0 ]; then
        give_directories
        export HOME=/var/lib/postgresql
        exec setpriv --reuid postgres --regid postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
        say "there is a database in $PGDATA; the scripts in $scripts are not run"
    else
        mkdir -p "$PGDATA"
        chmod 700 "$PGDATA" || true
        setting POSTGRES_PASSWORD
        setting POSTGRES_USER postgres
        setting POSTGRES_DB "$POSTGRES_USER"
        setting POSTGRES_INITDB_ARGS
        make_cluster
        fill "$@"
        say "the database is made; the server starts"
    fi
fi

exec "$@"
