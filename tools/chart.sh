#!/usr/bin/env bash
# Copies what the chart carries from elsewhere: the custom resource definitions.
#
#   tools/chart.sh
#
# The platform suite fails while they differ.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

cp "$ROOT"/crds/*.yaml "$ROOT/charts/millstream-operator/files/crds/"
say "copied the definitions"
