#!/usr/bin/env bash
# Runs the suite `kubernetes` on a local cluster: the running one of tools/cluster.sh, or one that is
# started for it and removed afterwards. Needs root.
#
#   tools/test-kubernetes.sh [part of a test's name]
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

use_target
# Each test has pods of its own; more of them at once only wait for each other.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-3}
export KUBECONFIG=${MILLSTREAM_CLUSTER:-/var/lib/millstream-cluster}/admin.kubeconfig

cd "$ROOT"
tools/packages.sh
tools/kubernetes.sh
cargo fetch --locked
MILLSTREAM_NEXT_OPERATOR_BIN=$(tools/next-operator.sh)
export MILLSTREAM_NEXT_OPERATOR_BIN
# What is tested and measured is what is installed.
MILLSTREAM_OPERATOR_BIN=$(tools/binary.sh operator)
export MILLSTREAM_OPERATOR_BIN
cargo build --locked -p millstream-cli
if ! kubectl get --raw /readyz --request-timeout=5s >/dev/null 2>&1; then
  trap 'tools/cluster.sh down' EXIT
  # Tests stop one of two nodes.
  tools/cluster.sh up 2
fi
arguments=(--features millstream-tests/kubernetes --test kubernetes)
# Figures and counts of kills are printed at the end.
arguments+=(-- --show-output "$@")
tools/test.sh "${arguments[@]}"
