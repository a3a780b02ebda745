#!/usr/bin/env bash
# Installs libfaketime, if it is missing, and prints what LD_PRELOAD has to name: ours, which adds the
# waits that it does not know, and its library.
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
source=$ROOT/tools/faketime/threads.c
hash=$(sha256sum <"$source" | cut -d' ' -f1)
threads=$CACHE/faketime/libthreads.so
if ! is_complete "$CACHE/faketime" "$hash"; then
  mkdir -p "$CACHE/faketime"
  # A process that has the old one goes on with it.
  cc -shared -fPIC -O2 -Wall -Werror -o "$threads.new" "$source" -ldl
  mv "$threads.new" "$threads"
  mark_complete "$CACHE/faketime" "$hash"
fi
echo "$threads:$library"
