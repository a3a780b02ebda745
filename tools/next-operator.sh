#!/usr/bin/env bash
# Builds the operator as a next version that is another one: it renders pods differently, and its
# StreamJobs have a field of the spec and one of the status that this version does not know. The suite
# `kubernetes` upgrades to it and back (A36). Prints where the program lies; its definitions lie beside
# it in `next-crds`.
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

# change FILE LINE NEW: in the copy, every line LINE becomes the lines NEW. It gets the time of what it
# was made from, so that it is compiled again only if that has changed.
change() {
  local made_from=$COPY/$1
  grep -qxF "$2" "$COPY/$1" || die "$1 has no line \`$2\`: say here what the next version changes"
  LINE=$2 NEW=$3 awk '$0 == ENVIRON["LINE"] { print ENVIRON["NEW"]; next } { print }' \
    "$COPY/$1" >"$COPY/$1.changed"
  [ "$made_from" -nt tools/next-operator.sh ] || made_from=tools/next-operator.sh
  touch -r "$made_from" "$COPY/$1.changed"
  mv "$COPY/$1.changed" "$COPY/$1"
}
change operator/src/controller/build/pod.rs 'const GRACE_SECONDS: i64 = 30;' 'const GRACE_SECONDS: i64 = 31;'
change crds/src/stream_job.rs '    pub paused: bool,' '    pub paused: bool,
    /// A field of the next version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub of_next_version: Option<String>,'
change crds/src/status.rs '    pub last_savepoint_at: Option<String>,' '    pub last_savepoint_at: Option<String>,
    /// A field of the next version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_next_version: Option<String>,'
change operator/src/controller/status.rs '    status.workers = Some(workers(view));' '    status.workers = Some(workers(view));
    status.of_next_version = Some("looked at".to_owned());'

# What this version was built as stays where tests look for it.
aside() {
  local program
  for program in millstream-operator crdgen; do
    [ ! -e "$CARGO_TARGET_DIR/debug/$program$1" ] ||
      mv -f "$CARGO_TARGET_DIR/debug/$program$1" "$CARGO_TARGET_DIR/debug/$program$2"
  done
}
aside '' .this
trap "aside .this ''" EXIT

# Not --locked: the lock file names the members with the version before.
# With the features that tests are compiled with, so that the crates of others are compiled once.
cargo build --offline --manifest-path "$COPY/Cargo.toml" "${TESTED[@]}" \
  --bin millstream-operator --bin crdgen >&2
install "$CARGO_TARGET_DIR/debug/millstream-operator" "$PROGRAM"
mkdir -p "$(dirname "$PROGRAM")/next-crds"
"$CARGO_TARGET_DIR/debug/crdgen" "$(dirname "$PROGRAM")/next-crds"
[ "$("$PROGRAM" --version)" = "millstream-operator $next" ] || die "$PROGRAM is not version $next"
say "$PROGRAM is version $next (${SECONDS} s)"
printf '%s\n' "$PROGRAM"
