#!/usr/bin/env bash
# Builds millstream without what the demo does not use, and runs the demo.
#
#   tools/demo.sh [options of `millstream run`]
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
command -v cc >/dev/null || "$ROOT/tools/packages.sh"

cd "$ROOT"
# Not optimised: that takes minutes more to build and saves the demo no second.
cargo build --locked -p millstream --no-default-features
say "built in ${SECONDS} s"
[ ! -d .run/orders-local ] ||
  say "going on from the last checkpoint in .run/orders-local; make clean-run starts over"
exec "$CARGO_TARGET_DIR/debug/millstream" run "$@" examples/orders-local/streamjob.yaml
