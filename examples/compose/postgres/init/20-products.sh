#!/bin/sh
# A script may do what SQL cannot; it is run in the container, by the database's user.
set -eu
for product in apple:3 bread:5 cheese:9; do
    psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -q \
        -c "INSERT INTO products VALUES ('${product%:*}', ${product#*:})"
done
