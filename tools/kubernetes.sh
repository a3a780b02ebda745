#!/usr/bin/env bash
# Builds what a local Kubernetes is made of: the components (one program), CoreDNS and Helm, from
# their Go modules, and installs the Debian packages beside them.
#
#   tools/kubernetes.sh          everything
#   tools/kubernetes.sh chart    only what looks at charts and manifests: Helm and Lua
#
# Programs go to <cache>/bin. Where they already lie, nothing is done.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

KUBERNETES=1.34.4
COREDNS=1.12.4
HELM=3.22.0
PACKAGES=(lua5.4)
CLUSTER_PACKAGES=(containerd runc containernetworking-plugins etcd-server iptables conntrack iproute2
  socat ebtables buildah busybox-static jq)

# packages NAME...: installs those that are missing.
packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || die "as root, run: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -qq
  # Nothing of this may start a service of its own.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >&2
}

# build NAME DIRECTORY LDFLAGS: compiles the main package in tools/DIRECTORY.
build() {
  local program=$CACHE/bin/$1
  [ -x "$program" ] && return
  say "building $1"
  (cd "$ROOT/tools/$2" && CGO_ENABLED=0 GOCACHE=$CACHE/go-build GOFLAGS=-buildvcs=false \
    go build -trimpath -ldflags "-s -w $3" -o "$program.new" .) >&2
  mv "$program.new" "$program"
  say "$1 ready after $SECONDS s"
}

cluster() {
  local version=k8s.io/component-base/version
  command -v kubectl >/dev/null || die "no kubectl: install kubectl 1.32 or newer"
  build "kubernetes-$KUBERNETES" kubernetes \
    "-X $version.gitVersion=v$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=34"
  build "coredns-$COREDNS" coredns ""
  ln -sf "kubernetes-$KUBERNETES" "$CACHE/bin/kubernetes"
  ln -sf "coredns-$COREDNS" "$CACHE/bin/coredns"
}

helm() {
  if [ ! -x "$CACHE/bin/helm-$HELM" ]; then
    say "building helm-$HELM"
    GOBIN=$CACHE/helm-build CGO_ENABLED=0 GOCACHE=$CACHE/go-build GOFLAGS=-buildvcs=false \
      go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$HELM" >&2
    mv "$CACHE/helm-build/helm" "$CACHE/bin/helm-$HELM"
  fi
  ln -sf "helm-$HELM" "$CACHE/bin/helm"
}

command -v go >/dev/null || die "no go: install Go 1.26 or newer"
lock kubernetes
mkdir -p "$CACHE/bin"
case ${1:-everything} in
  everything)
    packages "${PACKAGES[@]}" "${CLUSTER_PACKAGES[@]}"
    cluster
    helm
    ;;
  chart)
    packages "${PACKAGES[@]}"
    helm
    ;;
  *) die "usage: tools/kubernetes.sh [chart]" ;;
esac
say "ready after $SECONDS s"
