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

# The packages and features that tests are compiled with, always the same ones: another choice
# would have the crates of others compiled again.
# shellcheck disable=SC2034  # read by the scripts that source this file
TESTED=(--workspace --features millstream-tests/faults,millstream/failpoints)

# Names cargo's target directory, one for each checkout: cargo takes the work of another checkout
# for this one's where no file here is newer. A new one begins with what another checkout has
# compiled of the crates of others.
use_target() {
  command -v cargo >/dev/null || die "no cargo: install Rust 1.95 or newer"
  use_rocksdb
  [ -z "${CARGO_TARGET_DIR:-}" ] || return 0
  export CARGO_TARGET_DIR
  CARGO_TARGET_DIR=$CACHE/targets/$(printf '%s' "$ROOT" | sha256sum | cut -c 1-12)
  [ ! -d "$CARGO_TARGET_DIR" ] || return 0
  mkdir -p "$CACHE/targets"
  (lock targets && begin_target)
}

# Where tools/rocksdb.sh puts the library, by the version that is locked.
rocksdb_directory() {
  local version
  version=$(grep -A 1 '^name = "librocksdb-sys"$' "$ROOT/Cargo.lock" | sed -n 's/^version = "\(.*\)"$/\1/p')
  printf '%s/rocksdb-%s\n' "$CACHE" "$version"
}

# Has cargo link the RocksDB that tools/rocksdb.sh has built, if it has. Otherwise cargo compiles it, for
# each profile and target directory anew.
use_rocksdb() {
  local directory
  directory=$(rocksdb_directory)
  [ -f "$directory/librocksdb.a" ] || return 0
  export ROCKSDB_LIB_DIR=$directory ROCKSDB_STATIC=1
}

begin_target() {
  local new=$CARGO_TARGET_DIR.new other newest=
  for other in "$CACHE"/targets/*/; do
    # Its checkout is gone.
    if [ -f "$other/.checkout" ] && [ ! -d "$(cat "$other/.checkout")" ]; then
      say "$other belongs to no checkout any more: taking it over"
      mv "$other" "$new"
      break
    fi
    [[ $other == *.new/ || ($newest && $newest -nt $other) ]] || newest=$other
  done
  if [ ! -d "$new" ] && [ -n "$newest" ]; then
    say "beginning with the crates of others that are compiled in $newest"
    copy_dependencies "$newest" "$new"
  fi
  mkdir -p "$new"
  printf '%s\n' "$ROOT" >"$new/.checkout"
  mv "$new" "$CARGO_TARGET_DIR"
  local profile
  for profile in dev release; do
    [ ! -d "$CARGO_TARGET_DIR/${profile/dev/debug}" ] ||
      cargo clean --quiet --workspace --locked --profile "$profile" --manifest-path "$ROOT/Cargo.toml"
  done
}

# copy_dependencies FROM TO: compiled crates are never written again, so links serve; what their
# build scripts leave may be.
copy_dependencies() {
  local profile part
  for profile in debug release; do
    [ -d "$1/$profile" ] || continue
    mkdir -p "$2/$profile"
    for part in deps .fingerprint build; do
      [ -d "$1/$profile/$part" ] || continue
      case $part in
        deps) cp -al "$1/$profile/$part" "$2/$profile/" ;;
        *) cp -a "$1/$profile/$part" "$2/$profile/" ;;
      esac
    done
  done
}
