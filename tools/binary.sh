#!/usr/bin/env bash
# Builds the optimised programs: `millstream` with named crash points, which the process suite runs,
# and what runs beside it on Kubernetes.
#
#   tools/binary.sh [runtime|operator|cli]...    runtime if none is named
#
# They go to <cache>/bin, beside no other build's.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target

# Both at once: alone each would have the crates of Kubernetes compiled for its own features.
KUBERNETES=(-p millstream-operator -p millstream-cli)

# build PROGRAM CARGO-ARGUMENTS...: its last build stays where nothing has changed.
build() {
  local program=$1
  shift
  cargo build --release --locked "$@"
  cmp -s "$CARGO_TARGET_DIR/release/$program" "$CACHE/bin/$program" ||
    install "$CARGO_TARGET_DIR/release/$program" "$CACHE/bin/$program"
  say "$CACHE/bin/$program is built (${SECONDS} s)"
}

cd "$ROOT"
[ $# -gt 0 ] || set -- runtime
lock binary
mkdir -p "$CACHE/bin"
for part in "$@"; do
  case $part in
    runtime) build millstream -p millstream --features failpoints ;;
    operator) build millstream-operator "${KUBERNETES[@]}" ;;
    cli) build kubectl-streamjob "${KUBERNETES[@]}" ;;
    *) die "no such program: $part (runtime, operator or cli)" ;;
  esac
done
