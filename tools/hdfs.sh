#!/usr/bin/env bash
# Fetches HDFS (NameNode, DataNode, JournalNode and their command line) from Maven Central, pinned.
#
#   tools/hdfs.sh
#
# Jars go to <cache>/hdfs/lib. Where they already lie, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

pom=$ROOT/tools/hdfs/pom.xml
home=$CACHE/hdfs

command -v java >/dev/null || die "no java: install a JDK of version 17 or newer"
command -v mvn >/dev/null || die "no mvn: install Maven 3.8 or newer"
lock hdfs
hash=$(sha256sum <"$pom" | cut -d ' ' -f 1)
if is_complete "$home" "$hash"; then
  say "it is there"
  exit 0
fi
say "fetching"
rm -rf "$home"
mkdir -p "$home/lib"
mvn -q -B -f "$pom" dependency:copy-dependencies \
  -DincludeScope=runtime -DoutputDirectory="$home/lib" >&2
rm -rf "$(dirname "$pom")/target"
java -cp "$home/lib/*" org.apache.hadoop.util.VersionInfo >/dev/null 2>&1 ||
  die "it does not run on this Java ($(java -version 2>&1 | head -1))"
mark_complete "$home" "$hash"
jars=("$home"/lib/*.jar)
say "${#jars[@]} jars in ${SECONDS} s"
