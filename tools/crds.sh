#!/usr/bin/env bash
# Generates the custom resource definitions, and the chart's copy of them.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
cd "$ROOT"
cargo run --locked --quiet -p millstream-crds --bin crdgen -- crds
tools/chart.sh
