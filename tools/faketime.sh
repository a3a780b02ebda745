#!/usr/bin/env bash
# Installs libfaketime, if it is missing, and prints the path of its library.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

find_library() {
  local library
  for library in /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1; do
    [ ! -f "$library" ] || { echo "$library"; return; }
  done
}

lock faketime
if [ -z "$(find_library)" ]; then
  [ "$(id -u)" -eq 0 ] || die "missing package; run as root: apt-get install -y libfaketime"
  say "installing libfaketime"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >&2
  apt-get install -q -y --no-install-recommends libfaketime >&2
fi
library=$(find_library)
[ -n "$library" ] || die "libfaketime is installed and its library is not where it was expected"
echo "$library"
