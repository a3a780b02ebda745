#!/usr/bin/env bash
# Measures the keyed job beside Flink, on one broker, interleaved.
#
#   benches/keyed.sh [options of the driver, such as --rows 2000000 --customers 1000 --rounds 1]
#
# Results are appended to benches/results/<date>-keyed.jsonl.
source "$(dirname "${BASH_SOURCE[0]}")/../tools/prelude.sh"

use_target
cd "$ROOT"
tools/packages.sh
tools/kafka.sh 3.9.2
old=$(tools/flink.sh 1.20)
new=$(tools/flink.sh 2.2)
cargo build --release --locked -p millstream -p millstream-benches
mkdir -p benches/results
exec "$CARGO_TARGET_DIR/release/keyed" \
  --millstream "$CARGO_TARGET_DIR/release/millstream" \
  --flink "1.20=$old" --flink "2.2=$new" --kafka 3.9.2 \
  --results "benches/results/$(date +%F)-keyed.jsonl" "$@"
