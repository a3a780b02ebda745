#!/usr/bin/env bash
# Builds Prometheus and promtool from their Go module, pinned.
#
#   tools/prometheus.sh
#
# The programs go to <cache>/prometheus. Where they already are, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

# Prometheus 3.16.0: the module counts in its own way.
VERSION=v0.316.0

command -v go >/dev/null || die "no go: install Go 1.26 or newer"
lock prometheus
home=$CACHE/prometheus
if is_complete "$home" "$VERSION"; then
  say "$VERSION is there"
  exit 0
fi
say "building $VERSION (about two minutes)"
rm -rf "$home"
mkdir -p "$home"
# Tests name what is scraped: none of the ways to find it in a cloud is compiled.
GOBIN=$home GOCACHE=$CACHE/go-build CGO_ENABLED=0 GOFLAGS=-buildvcs=false \
  go install -trimpath -tags remove_all_sd -ldflags "-s -w" \
  "github.com/prometheus/prometheus/cmd/prometheus@$VERSION" \
  "github.com/prometheus/prometheus/cmd/promtool@$VERSION" 2>"$home/build.log" ||
  die "cannot build it: $(tail -5 "$home/build.log")"
"$home/promtool" --version >/dev/null || die "$home/promtool does not run"
mark_complete "$home" "$VERSION"
say "built $VERSION in ${SECONDS} s"
