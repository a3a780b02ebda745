#!/usr/bin/env bash
# Checks formatting, lints and the house rules.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
cd "$ROOT"
tools/rocksdb.sh >/dev/null
use_rocksdb
cargo fmt --all --check
cargo clippy --locked "${TESTED[@]}" --features millstream-tests/kubernetes --all-targets -- -D warnings
cargo test --locked --quiet "${TESTED[@]}" --test tidy
