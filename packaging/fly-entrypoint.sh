#!/bin/sh
# Entrypoint of a container that holds the application and lsfast, as on Fly.io: restores the
# database onto an empty volume, then runs the application below lsfast.
#
#     DB=/data/app.db REPLICA=s3://my-bucket/app fly-entrypoint.sh myapp --port 8080
set -eu
: "${DB:?path of the database}" "${REPLICA:?URL of the replica}"
lsfast restore --if-db-not-exists --if-replica-exists -o "$DB" "$REPLICA"
exec lsfast replicate "$DB" "$REPLICA" --exec "$*"
