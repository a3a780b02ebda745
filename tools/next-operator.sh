#!/usr/bin/env bash
# Builds the operator as the next version: the same sources, whose version is one higher. The suite
# `kubernetes` upgrades to it (A36). Prints where the program lies.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
COPY=$CARGO_TARGET_DIR/next-operator/sources
PROGRAM=$CARGO_TARGET_DIR/programs/test/millstream-operator-next

cd "$ROOT"
lock "next-operator-$(basename "$CARGO_TARGET_DIR")"
mkdir -p "$COPY" "$(dirname "$PROGRAM")"
# Files that are gone must not stay in the copy; what is unchanged keeps its time, so that it is not
# compiled again.
find "$COPY" -mindepth 1 -delete
git ls-files -z --cached --others --exclude-standard --deduplicate |
  tar --create --null --ignore-failed-read --files-from - | tar --extract --directory "$COPY"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
next=${version%.*}.$((${version##*.} + 1))
sed -i "s/^version = \"$version\"$/version = \"$next\"/" "$COPY/Cargo.toml"
# Not --locked: the lock file names the members with the version before.
cargo build --offline --manifest-path "$COPY/Cargo.toml" -p millstream-operator >&2
install "$CARGO_TARGET_DIR/debug/millstream-operator" "$PROGRAM"
[ "$("$PROGRAM" --version)" = "millstream-operator $next" ] || die "$PROGRAM is not version $next"
say "$PROGRAM is version $next (${SECONDS} s)"
printf '%s\n' "$PROGRAM"
