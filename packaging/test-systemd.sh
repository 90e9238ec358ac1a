#!/bin/bash
# Runs the .deb under a real systemd: a Debian in namespaces of its own, with systemd as process 1.
# Follows docs/guide/systemd.md (install, edit, systemctl start), then reloads, kills, hangs and stops the
# service, loses the host and restores. Needs root, debootstrap, and a kernel that allows namespaces.
#
#     packaging/test-systemd.sh [DEB]       # the one in dist/ by default
#
# The Debian is kept in target/debian-systemd for the next run (some 350 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
deb=${1:-$(ls dist/lsfast_*_"$(dpkg --print-architecture)".deb)}
bare=target/debian-systemd
suite=${SUITE:-bookworm}

if [ ! -e "$bare/complete" ]; then
  rm -rf "$bare"
  debootstrap --variant=minbase --include=ca-certificates,sqlite3,systemd,systemd-sysv,dbus "$suite" "$bare" >target/debootstrap.log
  touch "$bare/complete"
fi
root=$(mktemp -d)
group=lsfast-test-$$
finish() {
  find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
cp -a "$bare/." "$root"
cp "$deb" "$root/root/lsfast.deb"

# What runs inside, once systemd has booted.
cat > "$root/root/steps.sh" <<'STEPS'
#!/bin/bash
exec >> /root/log 2>&1
as_myapp() { setpriv --reuid myapp --regid myapp --clear-groups "$@"; }
# until_true COMMAND...: for a minute at most.
until_true() {
  local tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "not true after a minute: $*"; return 1; }
    sleep 0.1
  done
}
of() { systemctl show -p "$1" --value lsfast; }
restarted() { [ "$(of NRestarts)" = "$1" ] && systemctl is-active lsfast; }
stored() { as_myapp lsfast status /srv/myapp/app.db | grep "in sync"; }
reloaded() { journalctl -u lsfast -o cat | grep "the config file was read again"; }
steps() {
  set -ex
  local begun=$SECONDS
  dpkg -i /root/lsfast.deb
  useradd --create-home --home-dir /srv/myapp --shell /bin/sh myapp
  install -d -o myapp /mnt/backup
  as_myapp sqlite3 /srv/myapp/app.db "PRAGMA journal_mode=WAL; CREATE TABLE notes(text)"
  sed -i 's|^dbs: \[\]$|dbs:\n  - path: /srv/myapp/app.db\n    replica:\n      url: file:///mnt/backup/myapp|' /etc/lsfast.yml
  mkdir -p /etc/systemd/system/lsfast.service.d
  printf '[Service]\nUser=myapp\nReadWritePaths=/srv/myapp /mnt/backup\nWatchdogSec=3\nTimeoutAbortSec=2\n' \
    > /etc/systemd/system/lsfast.service.d/override.conf
  systemctl daemon-reload
  systemctl start lsfast
  [ "$(of ActiveState) $(of SubState) $(of Type)" = "active running notify" ]
  as_myapp sqlite3 /srv/myapp/app.db "INSERT INTO notes VALUES ('stored by the service')"
  until_true stored
  echo "stored after $((SECONDS - begun)) s"
  # Another file is followed after a reload.
  as_myapp sqlite3 /srv/myapp/more.db "PRAGMA journal_mode=WAL; CREATE TABLE notes(text)"
  printf '  - path: /srv/myapp/more.db\n    replica:\n      url: file:///mnt/backup/more\n' >> /etc/lsfast.yml
  systemctl reload lsfast
  until_true reloaded
  until_true test -d /mnt/backup/more/ltx
  # Killed, and hanging, which the watchdog finds: each time systemd starts it again.
  kill -KILL "$(of MainPID)"
  until_true restarted 1
  kill -STOP "$(of MainPID)"
  until_true restarted 2
  as_myapp sqlite3 /srv/myapp/app.db "INSERT INTO notes VALUES ('after two restarts')"
  until_true stored
  systemctl stop lsfast
  [ "$(of Result) $(of ExecMainStatus)" = "success 0" ]
  journalctl -u lsfast -o cat | grep "stopped: everything is stored"
  # The host is lost, all but the replica.
  rm -rf /srv/myapp
  install -d -o myapp /srv/myapp
  as_myapp lsfast restore /srv/myapp/app.db
  [ "$(as_myapp sqlite3 /srv/myapp/app.db 'SELECT text FROM notes' | tr '\n' ,)" = "stored by the service,after two restarts," ]
  dpkg -P lsfast
  [ ! -e /usr/lib/systemd/system/lsfast.service ] && [ ! -e /lib/systemd/system/lsfast.service ]
  echo $((SECONDS - begun)) > /root/passed
}
if [ "${1:-}" = steps ]; then
  steps
  exit
fi
# In a process of its own: `set -e` has no effect where a failure is asked about.
"$0" steps || journalctl -u lsfast --no-pager
systemctl poweroff --force --force
STEPS
chmod +x "$root/root/steps.sh"
cat > "$root/etc/systemd/system/steps.service" <<'UNIT'
[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart=/root/steps.sh
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../steps.service "$root/etc/systemd/system/multi-user.target.wants/"

# Makes the mounts of the new namespace, and becomes systemd.
cat > "$root/root/boot.sh" <<'BOOT'
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" /usr/bin/env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --log-target=console --show-status=no --unit=multi-user.target
BOOT
export root group
timeout -s KILL 300 sh -c '
  for top in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$top/cgroup.procs" ] || continue
    mkdir "$top/$group" && echo $$ > "$top/$group/cgroup.procs"
  done
  exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup sh "$root/root/boot.sh" "$root"
' > "$root/boot.log" 2>&1 || true
if [ ! -e "$root/root/passed" ]; then
  cat "$root/boot.log" "$root/root/log" >&2 || true
  exit 1
fi
echo "under systemd: installed, started, reloaded, killed, hung, stopped and restored in $(cat "$root/root/passed") s"
