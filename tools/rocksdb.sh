#!/usr/bin/env bash
# Builds RocksDB once for all profiles and checkouts, and prints the directory of the library.
#
#   tools/rocksdb.sh
#
# It costs about 15 minutes of CPU time. `use_target` of prelude.sh has cargo link what this has built.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

directory=$(rocksdb_directory)
lock rocksdb
if [ -f "$directory/librocksdb.a" ]; then
  printf '%s\n' "$directory"
  exit 0
fi
"$ROOT/tools/packages.sh"
say "building RocksDB, once for this machine"
build=$directory.build
mkdir -p "$build"
cd "$ROOT"
env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_TARGET_DIR="$build" \
  cargo build --release --locked --quiet -p librocksdb-sys >&2
library=$(find "$build/release/build" -name librocksdb.a -print -quit)
[ -n "$library" ] || die "cargo has built no librocksdb.a below $build"
mkdir -p "$directory"
strip --strip-debug -o "$directory/.new" "$library"
mv "$directory/.new" "$directory/librocksdb.a"
rm -rf "$build"
say "$directory/librocksdb.a is built (${SECONDS} s)"
printf '%s\n' "$directory"
