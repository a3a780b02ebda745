#!/usr/bin/env bash
# Installs moto 5.0.0, an S3 that ignores `If-None-Match`: what the store probe must refuse.
#
#   tools/moto.sh
#
# It goes into a Python environment in <cache>/moto-5.0.0, all packages pinned. Where it already
# is, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

requirements=$ROOT/tools/moto/requirements.txt
version=$(sha256sum "$requirements" | cut -d' ' -f1)

command -v python3 >/dev/null || die "no python3: install Python 3.11 or newer with venv"
lock moto
home=$CACHE/moto-5.0.0
if is_complete "$home" "$version"; then
  say "it is there"
  exit 0
fi
say "installing (about half a minute)"
rm -rf "$home"
python3 -m venv "$home" || die "cannot make a Python environment: install python3-venv"
"$home/bin/pip" install -q --disable-pip-version-check -r "$requirements" >&2 ||
  die "pip failed (see above)"
mark_complete "$home" "$version"
say "installed in ${SECONDS} s"
