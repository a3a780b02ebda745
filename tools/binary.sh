#!/usr/bin/env bash
# Builds the optimised `millstream` with named crash points, which the process suite runs.
#
#   tools/binary.sh
#
# The binary goes to <cache>/bin/millstream, beside no other build's.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
cd "$ROOT"
lock binary
cargo build --release --locked -p millstream --features failpoints
mkdir -p "$CACHE/bin"
cmp -s "$CARGO_TARGET_DIR/release/millstream" "$CACHE/bin/millstream" ||
  install "$CARGO_TARGET_DIR/release/millstream" "$CACHE/bin/millstream"
say "$CACHE/bin/millstream is built (${SECONDS} s)"
