# shellcheck shell=bash
# Sourced by the scripts beside it: where things are, and how they report.
set -euo pipefail

# shellcheck disable=SC2034  # read by the scripts that source this file
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}
mkdir -p "$CACHE"

# Cargo tells a test about the test's package. A cargo started below it would compile anew what has
# a build script that looks at these, and all that depends on it.
unset "${!CARGO_PKG_@}" "${!CARGO_MANIFEST_@}"

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Lets one process at a time install a thing; the others wait and then find it done.
lock() {
  exec 9>"$CACHE/.$1.lock"
  flock 9
}

# Whether directory $1 was completed from exactly the inputs whose hash is $2.
is_complete() { [ "$(cat "$1/.complete" 2>/dev/null)" = "$2" ]; }

mark_complete() { printf '%s\n' "$2" >"$1/.complete"; }
