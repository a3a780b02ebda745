#!/usr/bin/env bash
# Installs what the suites need, runs them all, and adds up the results.
#
#   tools/test.sh [which of Cargo's targets] [-- arguments of every test program]
#
# With arguments it runs only that: `--test crash -- point_05`, `--lib`; without, everything but the
# tests that take minutes each, whose names begin with `extended_`. The last line is "N passed, N
# failed". Fails on any failure, and where nothing was run.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

# together COMMAND...: all at once; fails if one does.
together() {
  local command pids=() pid failed=0
  for command in "$@"; do
    $command &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

use_target
[ $# -gt 0 ] || set -- -- --skip extended_
cargo=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  cargo+=("$1")
  shift
done
program=("${@:2}")

cd "$ROOT"
tools/packages.sh
# What only waits for a registry or takes one core goes beside what takes both.
together tools/minio.sh tools/kafka.sh tools/moto.sh tools/postgres.sh tools/hdfs.sh \
  tools/browser.sh "cargo fetch --locked --quiet"
# Compiled before the rest, which links it.
tools/rocksdb.sh >/dev/null
use_rocksdb
tools/kubernetes.sh chart
say "everything is installed after ${SECONDS} s"

built=$CARGO_TARGET_DIR/test-programs.json
cargo test --locked "${TESTED[@]}" --no-run --message-format json-render-diagnostics \
  "${cargo[@]}" >"$built"
tools/binary.sh >/dev/null
say "everything is built after ${SECONDS} s"

exec tools/run-tests.py "$CARGO_TARGET_DIR/test.log" "${program[@]}" <"$built"
