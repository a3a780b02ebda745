#!/usr/bin/env bash
# Measures the order job beside Flink and the bare client loop, on one broker, interleaved.
#
#   benches/run.sh [options of the driver, such as --rows 3000000 --rounds 2]
#
# Results are appended to benches/results/<date>-orders.jsonl.
source "$(dirname "${BASH_SOURCE[0]}")/../tools/prelude.sh"

use_target
cd "$ROOT"
tools/packages.sh
tools/kafka.sh 3.9.2
old=$(tools/flink.sh 1.20)
new=$(tools/flink.sh 2.2)
cargo build --release --locked -p millstream -p millstream-benches
mkdir -p benches/results
exec "$CARGO_TARGET_DIR/release/orders" \
  --millstream "$CARGO_TARGET_DIR/release/millstream" \
  --client-loop "$CARGO_TARGET_DIR/release/kafka_loop" \
  --flink "1.20=$old" --flink "2.2=$new" --kafka 3.9.2 \
  --results "benches/results/$(date +%F)-orders.jsonl" "$@"
