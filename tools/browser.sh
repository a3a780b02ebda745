#!/usr/bin/env bash
# Installs what drives the console as a person would: Chromium of Debian, and Playwright from PyPI.
#
#   tools/browser.sh
#
# Prints the Python that has Playwright. Its packages are pinned and lie in <cache>/playwright; of
# Chromium the newest that Debian has is taken, as by its users. Where both are, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

requirements=$ROOT/tools/browser/requirements.txt
version=$(sha256sum "$requirements" | cut -d' ' -f1)

lock browser
if ! command -v chromium >/dev/null; then
  [ "$(id -u)" -eq 0 ] || die "no Chromium; run as root: apt-get install -y chromium fonts-dejavu-core"
  say "installing chromium"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >&2
  apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core >&2
  say "installed it in ${SECONDS} s"
fi

command -v python3 >/dev/null || die "no python3: install Python 3.11 or newer with venv"
home=$CACHE/playwright
if ! is_complete "$home" "$version"; then
  say "installing Playwright"
  rm -rf "$home"
  python3 -m venv "$home" || die "cannot make a Python environment: install python3-venv"
  "$home/bin/pip" install -q --disable-pip-version-check -r "$requirements" >&2 ||
    die "pip failed (see above)"
  mark_complete "$home" "$version"
  say "installed in ${SECONDS} s"
fi
printf '%s\n' "$home/bin/python"
