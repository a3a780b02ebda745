#!/usr/bin/env bash
# Prints what Argo CD's ConfigMap argocd-cm has to hold for it to know StreamJobs, as a patch:
#
#   contrib/argocd/argocd-cm.sh > patch.yaml
#   kubectl -n argocd patch configmap argocd-cm --patch-file patch.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

indented() { sed "s/^\(.\)/$1\1/" "$2"; }

echo 'data:'
for kind in StreamJob StreamSavepoint; do
  echo "  resource.customizations.health.millstream.dev_$kind: |"
  indented '    ' $kind/health.lua
done
echo '  resource.customizations.actions.millstream.dev_StreamJob: |'
echo '    discovery.lua: |'
indented '      ' StreamJob/actions/discovery.lua
echo '    definitions:'
for action in approve restart resume savepoint suspend; do
  echo "      - name: $action"
  echo '        action.lua: |'
  indented '          ' StreamJob/actions/$action/action.lua
done
