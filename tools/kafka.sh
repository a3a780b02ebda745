#!/usr/bin/env bash
# Fetches Kafka brokers from Maven Central: every version that has a directory in tools/kafka/.
#
#   tools/kafka.sh            all versions
#   tools/kafka.sh 4.4.0      one version
#   tools/kafka.sh tools      Kafka's command line
#
# Jars go to <cache>/kafka/<version>/lib. Where they already lie, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

fetch() {
  local version=$1
  local pom=$ROOT/tools/kafka/$version/pom.xml
  local home=$CACHE/kafka/$version
  [ "$version" != tools ] || pom=$ROOT/tools/kafka-tools/pom.xml
  [ -f "$pom" ] || die "no such version: $pom does not exist"
  local hash
  hash=$(sha256sum <"$pom" | cut -d ' ' -f 1)
  if is_complete "$home" "$hash"; then
    say "$version is there"
    return
  fi
  say "fetching $version"
  rm -rf "$home"
  mkdir -p "$home/lib"
  mvn -q -B -f "$pom" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$home/lib" >&2
  rm -rf "$(dirname "$pom")/target"
  works "$version" "$home"
  mark_complete "$home" "$hash"
  local jars=("$home"/lib/*.jar)
  say "$version: ${#jars[@]} jars in ${SECONDS} s"
}

# works VERSION HOME: that what was fetched runs on this Java.
works() {
  local version=$1 home=$2 java
  java=$(java -version 2>&1 | head -1)
  if [ "$version" = tools ]; then
    java -cp "$home/lib/*" org.apache.kafka.tools.TopicCommand --version >/dev/null 2>&1 ||
      die "Kafka's command line does not run on this Java ($java)"
    return
  fi
  [ -f "$home/lib/kafka_2.13-$version.jar" ] ||
    die "$home/lib has no broker of version $version"
  java -cp "$home/lib/*" kafka.tools.StorageTool random-uuid >/dev/null 2>&1 ||
    die "the broker tools of version $version do not run on this Java ($java)"
}

command -v java >/dev/null || die "no java: install a JDK of version 17 or newer"
command -v mvn >/dev/null || die "no mvn: install Maven 3.8 or newer"
lock kafka
if [ $# -eq 0 ]; then
  for pom in "$ROOT"/tools/kafka/*/pom.xml; do
    fetch "$(basename "$(dirname "$pom")")"
  done
else
  for version in "$@"; do fetch "$version"; done
fi
