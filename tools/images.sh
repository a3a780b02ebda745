#!/usr/bin/env bash
# Builds the images of this machine's own binaries without a Docker engine and without a registry.
# They are put together as the last stage of images/*/Dockerfile is: what `root` collects, on
# nothing.
#
#   tools/images.sh [PART]...                runtime    localhost/millstream:dev
#                                            operator   localhost/millstream-operator:dev
#                                            busybox    localhost/busybox:dev, for `helm test`
#   tools/images.sh root BINARY DIRECTORY    collects an image's files in DIRECTORY
#
# The binary is the optimised one of tools/binary.sh; where that is not built, the debug build's.
# Prints the path of each part's image, a line each. An image is left alone while its binary is the same.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
IMAGES=$CARGO_TARGET_DIR/images
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

# root BINARY DIRECTORY: the binary without its debugging information, the libraries that it names,
# CA certificates, a user, and a directory for temporary files.
root() {
  local binary=$1 into=$2 library
  [ -f "$CERTIFICATES" ] || die "$CERTIFICATES is not there: install the package ca-certificates"
  mkdir -p "$into/etc/ssl/certs" "$into/tmp"
  chmod 1777 "$into/tmp"
  strip -o "$into/$(basename "$binary")" "$binary"
  for library in $(ldd "$binary" | grep -o '/[^ ]*'); do
    mkdir -p "$into$(dirname "$library")"
    cp -L "$library" "$into$library"
  done
  cp "$CERTIFICATES" "$into$CERTIFICATES"
  printf 'root:x:0:0::/:/none\nmillstream:x:65532:65532::/tmp:/none\n' >"$into/etc/passwd"
  printf 'root:x:0:\nmillstream:x:65532:\n' >"$into/etc/group"
  printf 'hosts: files dns\n' >"$into/etc/nsswitch.conf"
}

# binary NAME: the path of the build that goes into the image.
binary() {
  local file
  for file in "$CARGO_TARGET_DIR/programs/release/$1" "$CARGO_TARGET_DIR/debug/$1"; do
    [ -x "$file" ] && { echo "$file"; return; }
  done
  die "$1 is not built: cargo build --release -p $1"
}

# last_stage DOCKERFILE: its last stage, with the files from beside it.
last_stage() {
  tac "$1" | sed '/^FROM scratch/q' | tac | sed 's|^COPY --from=build /image /|COPY image /|'
}

# Files and Dockerfile of each part, in a directory.
lay_out() {
  local part=$1 source=$2 into=$3
  if [ "$part" = busybox ]; then
    mkdir -p "$into/image/bin"
    cp "$source" "$into/image/bin/busybox"
    ln -s busybox "$into/image/bin/wget"
    printf 'FROM scratch\nCOPY image /\nENV PATH=/bin\nUSER 65532:65532\n' >"$into/Dockerfile"
    return
  fi
  root "$source" "$into/image"
  last_stage "$ROOT/images/$part/Dockerfile" >"$into/Dockerfile"
}

# image PART PROGRAM SOURCE: an image of the program that SOURCE is.
image() {
  local part=$1 name=localhost/$2:dev file=$IMAGES/$2.tar source=$3 hash work
  hash=$({
    stat -L -c '%n %s %y' "$source"
    cat "$ROOT/images"/*/Dockerfile "$ROOT/tools/images.sh"
  } | sha256sum | cut -d ' ' -f 1)
  if [ -f "$file" ] && [ "$(cat "$file.hash" 2>/dev/null)" = "$hash" ]; then
    say "$name is there ($(cat "$file.size"))"
    printf '%s\n' "$file"
    return
  fi
  work=$(mktemp -d)
  lay_out "$part" "$source" "$work"
  "$ROOT/tools/cluster.sh" image "$work" "$name" "$file.new" >&2
  mv "$file.new" "$file"
  size "$file" >"$file.size"
  echo "$hash" >"$file.hash"
  rm -rf "$work"
  say "$name of $source: $(cat "$file.size") in $SECONDS s"
  printf '%s\n' "$file"
}

# The image as it lies on a node, and as it is pulled.
size() {
  printf '%d MB, %d MB compressed' "$(($(stat -c %s "$1") / 1000000))" \
    "$(($(gzip -1 -c "$1" | wc -c) / 1000000))"
}

if [ "${1:-}" = root ]; then
  root "${2:?usage: tools/images.sh root BINARY DIRECTORY}" "${3:?usage: tools/images.sh root BINARY DIRECTORY}"
  exit
fi
[ $# -gt 0 ] || set -- runtime operator
mkdir -p "$IMAGES"
lock "images-$(basename "$CARGO_TARGET_DIR")"
for part in "$@"; do
  case $part in
    runtime) image runtime millstream "$(binary millstream)" ;;
    operator) image operator millstream-operator "$(binary millstream-operator)" ;;
    busybox) image busybox busybox "$(command -v busybox)" ;;
    *) die "no such image: $part (runtime, operator or busybox)" ;;
  esac
done
