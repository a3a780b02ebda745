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

# Names cargo's target directory. Checkouts share one, so that the crates of others are compiled
# once; but cargo takes the work of another checkout for this one's where no file here is newer. So
# the last other one's is removed.
use_target() {
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
  command -v cargo >/dev/null || die "no cargo: install Rust 1.95 or newer"
  local owner=$CARGO_TARGET_DIR/.checkout
  [ "$(cat "$owner" 2>/dev/null)" != "$ROOT" ] || return 0
  if [ -d "$CARGO_TARGET_DIR" ]; then
    say "$CARGO_TARGET_DIR was used by another checkout: its own crates are compiled again"
    for profile in dev release; do
      cargo clean --quiet --workspace --locked --profile "$profile" \
        --manifest-path "$ROOT/Cargo.toml"
    done
  fi
  mkdir -p "$CARGO_TARGET_DIR"
  printf '%s\n' "$ROOT" >"$owner"
}
