#!/bin/bash
# Installs the .rpm by rpm into a chroot, stores a row, loses the database, restores it, and removes the
# package. The chroot is the bare Debian of test-deb.sh: no package of it satisfies what the .rpm
# requires, so the requirements are listed and not enforced. Needs root, debootstrap and rpm.
#
#     packaging/test-rpm.sh [RPM]           # the one in dist/ by default
set -euo pipefail
cd "$(dirname "$0")/.."
rpm=${1:-$(ls dist/lsfast-*."$(uname -m)".rpm)}
bare=target/debian
suite=${SUITE:-bookworm}

if [ ! -e "$bare/complete" ]; then
  rm -rf "$bare"
  debootstrap --variant=minbase --include=ca-certificates,sqlite3 "$suite" "$bare" >target/debootstrap.log
  touch "$bare/complete"
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp -a "$bare/." "$root"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
on_root() { rpm --root "$root" --define '_dbpath /var/lib/rpm' "$@"; }
fail() { echo "$*" >&2; exit 1; }

# A systemctl that notes what the scripts of the package ask of it.
printf '#!/bin/sh\necho "$@" >> /systemctl.log\n' > "$root/usr/bin/systemctl"
chmod 755 "$root/usr/bin/systemctl"
mkdir -p "$root/run/systemd/system"
asked() { cat "$root/systemctl.log" 2>/dev/null || true; rm -f "$root/systemctl.log"; }

begun=$(date +%s)
rpm -qp --requires "$rpm"
rpm -qp --requires "$rpm" | grep -q '^ca-certificates' || fail "$rpm does not require ca-certificates"
rpm -qp --requires "$rpm" | grep -q '^libc\.so\.6(GLIBC_2' || fail "$rpm does not say which glibc it needs"
on_root --initdb
on_root -i --nodeps "$rpm"
inside lsfast version
for file in /usr/lib/systemd/system/lsfast.service /etc/lsfast.yml /usr/share/man/man1/lsfast.1 \
  /usr/share/man/man1/lsfast-replicate.1 /usr/share/man/man5/lsfast.yml.5 /usr/share/licenses/lsfast/LICENSE-MIT \
  /usr/share/bash-completion/completions/lsfast /usr/share/zsh/site-functions/_lsfast \
  /usr/share/fish/vendor_completions.d/lsfast.fish; do
  [ "$(stat -c '%a %U %G' "$root$file")" = "644 root root" ] || fail "$file is missing, or not root's with mode 644"
done
[ "$(stat -c '%a %U' "$root/usr/bin/lsfast")" = "755 root" ] || fail "lsfast is not a program of root's"
on_root -V --nodeps lsfast || fail "files are not as the package has them"

sed -i 's|^dbs: \[\]$|dbs:\n  - path: /srv/app.db\n    replica:\n      url: file:///mnt/backup|' "$root/etc/lsfast.yml"
inside sqlite3 /srv/app.db "PRAGMA journal_mode=WAL; CREATE TABLE notes(text); INSERT INTO notes VALUES ('stored')"
inside lsfast replicate --once
rm -rf "$root"/srv/app.db* "$root"/srv/.app.db*
inside lsfast restore /srv/app.db
[ "$(inside sqlite3 /srv/app.db 'SELECT text FROM notes')" = stored ] || fail "the row did not come back"

# An upgrade restarts the service and keeps the edited config file; a removal stops the service.
asked >/dev/null
on_root -U --nodeps --force "$rpm"
[ "$(asked | grep -v '^daemon-reload$')" = "try-restart lsfast.service" ] || fail "an upgrade does not restart the service alone"
grep -q /srv/app.db "$root/etc/lsfast.yml" || fail "an upgrade replaced the config file"
on_root -e --nodeps lsfast
asked | grep -q 'disable --now lsfast\.service' || fail "the removal leaves the service running"
left=$(find "$root/usr" "$root/etc" -name '*lsfast*')
[ "$left" = "$root/etc/lsfast.yml.rpmsave" ] || fail "left after the removal: $left"
[ -e "$root/srv/app.db" ] && [ -d "$root/mnt/backup/ltx" ]
echo "installed, replicated, restored, upgraded and removed in $(($(date +%s) - begun)) s"
