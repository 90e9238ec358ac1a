# Runs before the files of a version of the .rpm are removed; $1 is the number of versions that stay.
# The last removal stops and disables the service.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
  systemctl --no-reload disable --now lsfast.service >/dev/null 2>&1 || :
fi
