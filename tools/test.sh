#!/usr/bin/env bash
# Installs what the suites need, runs them all, and adds up the results.
#
#   tools/test.sh [arguments of `cargo test`]
#
# With arguments it runs only that: `--test crash`, `--lib`; without, everything but the tests that
# take minutes each, whose names begin with `extended_`. The last line is "N passed, N failed". Fails on
# any failure, and where nothing was run.
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

cd "$ROOT"
tools/packages.sh
# What only waits for a registry or takes one core goes beside what takes both.
together tools/minio.sh tools/kafka.sh tools/moto.sh "cargo fetch --locked --quiet"
tools/kubernetes.sh chart
say "everything is installed after ${SECONDS} s"

cargo test --locked "${TESTED[@]}" --no-run "$@"
tools/binary.sh >/dev/null
say "everything is built after ${SECONDS} s"

[ $# -gt 0 ] || set -- -- --skip extended_
log=$CARGO_TARGET_DIR/test.log
status=0
cargo test --locked "${TESTED[@]}" --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

read -r passed failed < <(awk '
  /^test result: / { passed += $4; failed += $6 }
  END { print passed + 0, failed + 0 }' "$log")
say "done after ${SECONDS} s; everything printed is in $log"
if [ "$passed" -eq 0 ] && [ "$failed" -eq 0 ]; then
  say "no test was run"
  status=1
elif [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
  say "a test binary did not finish (see above)"
  failed=1
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
exit "$status"
