#!/usr/bin/env bash
# Measures start, recovery and memory of the order job.
#
#   benches/recovery.sh [options of the driver, such as --kills 20 --rate 10000]
#
# Results are appended to benches/results/<date>-recovery.jsonl.
source "$(dirname "${BASH_SOURCE[0]}")/../tools/prelude.sh"

use_target
cd "$ROOT"
tools/packages.sh
tools/kafka.sh 3.9.2
tools/minio.sh
cargo build --release --locked -p millstream -p millstream-benches
mkdir -p benches/results
export MILLSTREAM_BIN=$CARGO_TARGET_DIR/release/millstream
"$CARGO_TARGET_DIR/release/recovery" --millstream "$MILLSTREAM_BIN" "$@" |
  tee -a "benches/results/$(date +%F)-recovery.jsonl"
