#!/usr/bin/env bash
# Installs PostgreSQL 15, the second opinion on what SQL means, from Debian's packages.
#
#   tools/postgres.sh
#
# Prints the directory of its programs. No cluster is made and none is started: tests start their
# own. Where it already is, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

VERSION=15
programs=/usr/lib/postgresql/$VERSION/bin

lock postgres
if [ ! -x "$programs/postgres" ]; then
  [ "$(id -u)" -eq 0 ] || die "no PostgreSQL $VERSION; run as root: apt-get install -y postgresql-$VERSION"
  say "installing postgresql-$VERSION"
  export DEBIAN_FRONTEND=noninteractive
  # Before the package asks: it would make and start a cluster on the usual port.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.conf
  apt-get update -q >&2
  apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold \
    "postgresql-$VERSION" >&2
  say "installed it in ${SECONDS} s"
fi
"$programs/postgres" --version | grep -q " $VERSION\." || die "$programs/postgres is another version"
printf '%s\n' "$programs"
