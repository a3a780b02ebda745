#!/usr/bin/env bash
# Builds programs of this checkout and prints their paths, a line each.
#
#   tools/binary.sh                               `millstream` with named crash points, as tests run it
#   tools/binary.sh runtime|operator|cli...       optimised, as they are installed; the runtime with
#                                                 named crash points
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
PROGRAMS=$CARGO_TARGET_DIR/programs

# Both at once: alone each would have the crates of Kubernetes compiled for its own features.
KUBERNETES=(-p millstream-operator -p millstream-cli)

# put PROGRAM BUILT: another build of this checkout does not replace what was put there.
put() {
  cmp -s "$2" "$1" || install -D "$2" "$1"
  say "$1 is built (${SECONDS} s)"
  printf '%s\n' "$1"
}

# optimised PROGRAM CARGO-ARGUMENTS...
optimised() {
  local program=$1
  shift
  cargo build --release --locked "$@" >&2
  put "$PROGRAMS/release/$program" "$CARGO_TARGET_DIR/release/$program"
}

cd "$ROOT"
tools/rocksdb.sh >/dev/null
use_rocksdb
lock "binary-$(basename "$CARGO_TARGET_DIR")"
if [ $# -eq 0 ]; then
  # The tests of processes have it built.
  cargo test --locked --quiet "${TESTED[@]}" --no-run --test processes >&2
  put "$PROGRAMS/test/millstream" "$CARGO_TARGET_DIR/debug/millstream"
fi
for part in "$@"; do
  case $part in
    runtime) optimised millstream -p millstream --features failpoints ;;
    operator) optimised millstream-operator "${KUBERNETES[@]}" ;;
    cli) optimised kubectl-streamjob "${KUBERNETES[@]}" ;;
    *) die "no such program: $part (runtime, operator or cli)" ;;
  esac
done
