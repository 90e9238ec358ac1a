#!/bin/bash
# Installs the .deb on a bare Debian (a chroot), edits the config file, runs the unit's command as the
# application's user with the rights of the unit, stores a row, loses the host, restores it
# elsewhere, and removes the package. Needs root, debootstrap and python3; lintian and systemd-analyze
# are asked if they are there.
#
#     packaging/test-deb.sh [DEB]           # the one in dist/ by default
#
# The bare Debian is kept in target/debian for the next run (some 250 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
deb=${1:-$(ls dist/lsfast_*_"$(dpkg --print-architecture)".deb)}
bare=target/debian
suite=${SUITE:-bookworm}

if command -v lintian >/dev/null; then
  # The project publishes no address; changes are in CHANGELOG.md; a program of musl is static;
  # SQLite is compiled in.
  lintian --allow-root --fail-on error \
    --suppress-tags malformed-contact,no-changelog,wrong-name-for-upstream-changelog,statically-linked-binary,embedded-library "$deb"
fi
if [ ! -e "$bare/complete" ]; then
  rm -rf "$bare"
  debootstrap --variant=minbase --include=ca-certificates,sqlite3 "$suite" "$bare" >target/debootstrap.log
  touch "$bare/complete"
fi
root=$(mktemp -d)
service=
notify=
finish() {
  [ -z "$service" ] || kill -KILL "$service" 2>/dev/null || true
  [ -z "$notify" ] || kill "$notify" 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
cp -a "$bare/." "$root"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

begun=$(date +%s)
cp "$deb" "$root/tmp/lsfast.deb"
inside DEBIAN_FRONTEND=noninteractive dpkg -i /tmp/lsfast.deb
inside lsfast version
for file in /usr/lib/systemd/system/lsfast.service /etc/lsfast.yml /usr/share/man/man1/lsfast.1.gz \
  /usr/share/man/man1/lsfast-replicate.1.gz /usr/share/man/man5/lsfast.yml.5.gz /usr/share/doc/lsfast/copyright \
  /usr/share/bash-completion/completions/lsfast /usr/share/zsh/vendor-completions/_lsfast; do
  [ -e "$root$file" ] || [ -e "$root/${file#/usr}" ] || { echo "$file is not in the package" >&2; exit 1; }
done
unit=$(ls "$root"/usr/lib/systemd/system/lsfast.service "$root"/lib/systemd/system/lsfast.service 2>/dev/null | head -n 1)
if command -v systemd-analyze >/dev/null; then
  # Among the units of this host, with the program where it is now.
  mkdir "$root/tmp/unit"
  sed "s|^ExecStart=|&$root|" "$unit" > "$root/tmp/unit/lsfast.service"
  findings=$(systemd-analyze verify --man=no "$root/tmp/unit/lsfast.service" 2>&1 || true)
  [ -z "$findings" ] || { echo "systemd-analyze verify: $findings" >&2; exit 1; }
  systemd-analyze security --offline=true --threshold=30 "$root/tmp/unit/lsfast.service" | tail -n 1
fi

# The application, with a user of its own.
inside useradd --create-home --home-dir /srv/myapp --shell /bin/sh myapp
mkdir -p "$root/mnt/backup"
inside chown myapp /mnt/backup
as_myapp() { inside setpriv --reuid myapp --regid myapp --clear-groups "$@"; }
as_myapp sqlite3 /srv/myapp/app.db "PRAGMA journal_mode=WAL; CREATE TABLE notes(text)"

# Three lines.
sed -i 's|^dbs: \[\]$|dbs:\n  - path: /srv/myapp/app.db\n    replica:\n      url: file:///mnt/backup/myapp|' "$root/etc/lsfast.yml"
inside lsfast explain

# What `systemctl start lsfast` does: the command, the user, the rights, and the socket that hears that it is ready.
command=$(sed -n 's/^ExecStart=//p' "$unit")
[ "$(sed -n 's/^Type=//p' "$unit")" = notify ]
# shellcheck disable=SC2016
python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1] + "/run/notify")
import os
os.chmod(sys.argv[1] + "/run/notify", 0o777)
while True:
    text = s.recv(4096).decode()
    print(text, flush=True)
' "$root" > "$root/notified" &
notify=$!
# until_true COMMAND...: for a minute at most.
until_true() {
  local tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { cat "$root/service.log" >&2; echo "not true after a minute: $*" >&2; exit 1; }
    sleep 0.1
  done
}
until_true test -S "$root/run/notify"
# shellcheck disable=SC2086
chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin NOTIFY_SOCKET=/run/notify WATCHDOG_USEC=60000000 \
  setpriv --reuid myapp --regid myapp --clear-groups --bounding-set=-all,+sys_nice --inh-caps=-all,+sys_nice \
  --ambient-caps=-all,+sys_nice --no-new-privs $command >"$root/service.log" 2>&1 &
service=$!
until_true grep -q READY=1 "$root/notified"
as_myapp sqlite3 /srv/myapp/app.db "INSERT INTO notes VALUES ('stored by the service')"
stored() { as_myapp lsfast status /srv/myapp/app.db | grep -q "in sync"; }
until_true stored
kill -TERM "$service"
wait "$service"
service=
grep -q "stopped: everything is stored" "$root/service.log"

# The host is lost, all but the replica.
rm -rf "$root/srv/myapp"
inside install -d -o myapp /srv/myapp
as_myapp lsfast restore /srv/myapp/app.db
[ "$(as_myapp sqlite3 /srv/myapp/app.db 'SELECT text FROM notes')" = "stored by the service" ]

inside dpkg -r lsfast
[ ! -e "$root/usr/bin/lsfast" ] && [ -e "$root/etc/lsfast.yml" ] && [ -e "$root/srv/myapp/app.db" ]
inside dpkg -P lsfast
[ ! -e "$root/etc/lsfast.yml" ] && [ ! -e "$unit" ]
echo "installed, replicated, restored and removed in $(($(date +%s) - begun)) s"
