#!/usr/bin/env bash
# Measures the order job into a table of PostgreSQL, beside Flink's JDBC sink, interleaved.
#
#   benches/tables.sh [options of the driver, such as --rows 500000 --rounds 1]
#
# Results are appended to benches/results/<date>-tables.jsonl.
source "$(dirname "${BASH_SOURCE[0]}")/../tools/prelude.sh"

use_target
cd "$ROOT"
tools/packages.sh
tools/kafka.sh 3.9.2
tools/postgres.sh >/dev/null
old=$(tools/flink.sh 1.20)
new=$(tools/flink.sh 2.2)
cargo build --release --locked -p millstream -p millstream-benches
mkdir -p benches/results
exec "$CARGO_TARGET_DIR/release/tables" \
  --millstream "$CARGO_TARGET_DIR/release/millstream" \
  --flink "1.20=$old" --flink "2.2=$new" --kafka 3.9.2 \
  --results "benches/results/$(date +%F)-tables.jsonl" "$@"
