#!/usr/bin/env bash
# Installs the Debian packages that the build needs, if any is missing.
#
#   tools/packages.sh
#
# librdkafka is built from source by cmake and links the system's OpenSSL, libcurl, zlib; RocksDB's
# interface is read by libclang; the test certificates are made by openssl.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

PACKAGES=(build-essential cmake libclang-dev libcurl4-openssl-dev libssl-dev openssl pkg-config zlib1g-dev)

missing=()
for package in "${PACKAGES[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
    missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  say "all ${#PACKAGES[@]} packages are there"
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  die "missing packages; run as root: apt-get update && apt-get install -y ${missing[*]}"
fi
say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
say "installed ${#missing[@]} packages in ${SECONDS} s"
