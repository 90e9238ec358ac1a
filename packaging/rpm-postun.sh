# Runs after the files of a version of the .rpm were removed; $1 is the number of versions that stay.
# An upgrade restarts the service if it runs. The last removal removes the package's own folders, which
# cargo-generate-rpm does not let it own.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || :
  [ "$1" -eq 0 ] || systemctl try-restart lsfast.service || :
fi
if [ "$1" -eq 0 ]; then
  rmdir /usr/share/doc/lsfast/guide /usr/share/doc/lsfast /usr/share/licenses/lsfast 2>/dev/null || :
fi
