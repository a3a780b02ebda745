#!/usr/bin/env bash
# Brings Apache Flink (the peer of the benchmarks) from Maven and compiles the peer's jobs.
# Usage: tools/flink.sh 1.20|2.2    Prints the directory that holds lib/ and job/.
set -euo pipefail
version=${1:?usage: tools/flink.sh 1.20|2.2}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}/flink/$version
pom=$here/flink/$version/pom.xml
sources=("$here"/../benches/flink/*.java)
stamp=$(cat "$pom" "${sources[@]}" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$cache/.stamp" 2>/dev/null || true)" != "$stamp" ]; then
  began=$SECONDS
  rm -rf "$cache" && mkdir -p "$cache/lib" "$cache/job/classes"
  mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/lib" >&2
  javac -nowarn -cp "$cache/lib/*" -d "$cache/job/classes" "${sources[@]}" >&2
  jar --create --file "$cache/job/benches.jar" -C "$cache/job/classes" .
  echo "$stamp" > "$cache/.stamp"
  echo "flink.sh: Flink $version ready after $((SECONDS - began)) s" >&2
fi
echo "$cache"
