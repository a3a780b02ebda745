#!/usr/bin/env bash
# Builds the MinIO server (the S3 of the tests) from its Go module, pinned.
#
#   tools/minio.sh
#
# The binary goes to <cache>/minio/minio. Where it already is, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

VERSION=v0.0.0-20260212201848-7aac2a2c5b7c

command -v go >/dev/null || die "no go: install Go 1.26 or newer"
lock minio
home=$CACHE/minio
if is_complete "$home" "$VERSION"; then
  say "$VERSION is there"
  exit 0
fi
say "building $VERSION (about two minutes)"
rm -rf "$home"
mkdir -p "$home"
GOBIN=$home GOCACHE=$CACHE/go-build CGO_ENABLED=0 GOFLAGS=-buildvcs=false \
  go install -trimpath -ldflags "-s -w" "github.com/minio/minio@$VERSION" 2>"$home/build.log" ||
  die "cannot build it: $(tail -5 "$home/build.log")"
"$home/minio" --version >/dev/null || die "$home/minio does not run"
mark_complete "$home" "$VERSION"
say "built $VERSION in ${SECONDS} s"
