#!/usr/bin/env bash
# A local Kubernetes on this machine: etcd, API server, controllers, scheduler, one or two nodes
# with containerd, kube-proxy, DNS. For tests and `make cluster`; needs root and Linux.
#
#   tools/cluster.sh up [nodes]     start (1 or 2 nodes); prints the path of the admin kubeconfig
#   tools/cluster.sh down           stop and remove everything that `up` made
#   tools/cluster.sh load FILE      import an image (docker-archive) into every node
#   tools/cluster.sh stop-node N    as a power cut: nobody hears of a node and its pods any more
#   tools/cluster.sh cut-node N     as a cut network: the node and its pods live and reach nobody else
#   tools/cluster.sh start-node N   what was stopped or cut is there again
#
# Everything lies in ${MILLSTREAM_CLUSTER:-/var/lib/millstream-cluster}. Nothing a pod sends leaves
# the machine.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

HOME_DIR=${MILLSTREAM_CLUSTER:-/var/lib/millstream-cluster}
BIN=$CACHE/bin
BRIDGE=ms-cluster0
GATEWAY=10.244.0.1
NODE2=10.244.0.2
TOKEN=millstream-local-admin
KUBECONFIG_FILE=$HOME_DIR/admin.kubeconfig

[ "$(id -u)" -eq 0 ] || die "needs root: it makes a bridge, mounts and cgroups"

# start NAME COMMAND...: in the background, with a log and a pid file.
start() {
  local name=$1
  shift
  setsid "$@" >"$HOME_DIR/logs/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$HOME_DIR/pids/$name"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "$what did not come up; see $HOME_DIR/logs"
    read -rt 0.1 <> <(:) || true
  done
}

kubectl() { command kubectl --kubeconfig "$KUBECONFIG_FILE" "$@"; }
# What a node's kubelet sends is known by its group: all nodes share this machine's addresses.
group_of() { echo $((4200 + $1)); }
node_ip() { if [ "$1" -eq 1 ]; then echo $GATEWAY; else echo $NODE2; fi; }

network() {
  sysctl -qw net.ipv4.ip_forward=1
  ip link add $BRIDGE type bridge 2>/dev/null || true
  ip addr replace $GATEWAY/16 dev $BRIDGE
  ip addr replace $NODE2/16 dev $BRIDGE
  ip link set $BRIDGE up
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
  local uplink
  uplink=$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -1)
  if [ -n "$uplink" ]; then
    iptables -C FORWARD -i $BRIDGE -o "$uplink" -j REJECT 2>/dev/null ||
      iptables -I FORWARD -i $BRIDGE -o "$uplink" -j REJECT
    echo "$uplink" >"$HOME_DIR/uplink"
  fi
}

certificates() {
  local pki=$HOME_DIR/pki
  mkdir -p "$pki"
  [ -f "$pki/apiserver.crt" ] && return
  openssl genrsa -out "$pki/ca.key" 2048
  openssl req -x509 -new -key "$pki/ca.key" -subj /CN=millstream-cluster -days 3650 -out "$pki/ca.crt"
  openssl genrsa -out "$pki/sa.key" 2048
  openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub"
  openssl genrsa -out "$pki/apiserver.key" 2048
  openssl req -new -key "$pki/apiserver.key" -subj /CN=kube-apiserver -out "$pki/apiserver.csr"
  openssl x509 -req -in "$pki/apiserver.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial \
    -days 3650 -out "$pki/apiserver.crt" -extfile <(printf '%s' \
      "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:10.96.0.1,IP:$GATEWAY")
} 2>/dev/null

kubeconfig() {
  echo "$TOKEN,admin,admin,system:masters" >"$HOME_DIR/pki/tokens.csv"
  cat >"$KUBECONFIG_FILE" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $HOME_DIR/pki/ca.crt}}]
users: [{name: admin, user: {token: $TOKEN}}]
contexts: [{name: local, context: {cluster: local, user: admin}}]
current-context: local
YAML
}

control_plane() {
  start etcd etcd --unsafe-no-fsync --data-dir "$HOME_DIR/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --logger zap
  local pki=$HOME_DIR/pki
  start kube-apiserver "$BIN/kubernetes" kube-apiserver --bind-address 0.0.0.0 --advertise-address $GATEWAY \
    --secure-port 6443 --etcd-servers http://127.0.0.1:2379 \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --client-ca-file "$pki/ca.crt" --token-auth-file "$pki/tokens.csv" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
    --service-cluster-ip-range 10.96.0.0/16 --authorization-mode Node,RBAC --allow-privileged \
    --kubelet-preferred-address-types InternalIP --profiling=false
  wait_for 60 kube-apiserver kubectl get --raw /readyz
  start kube-controller-manager "$BIN/kubernetes" kube-controller-manager --kubeconfig "$KUBECONFIG_FILE" \
    --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
    --use-service-account-credentials --leader-elect=false --node-monitor-grace-period 20s \
    --node-monitor-period 2s
  start kube-scheduler "$BIN/kubernetes" kube-scheduler --kubeconfig "$KUBECONFIG_FILE" --leader-elect=false
}

# The pause image: a process that does nothing until it is told to stop.
pause_image() {
  [ -f "$HOME_DIR/pause.tar" ] && return
  local work
  work=$(mktemp -d)
  cat >"$work/pause.c" <<'C'
#include <signal.h>
#include <unistd.h>
static void stop(int s) { (void)s; _exit(0); }
int main(void) { signal(SIGTERM, stop); signal(SIGINT, stop); for (;;) pause(); }
C
  gcc -O2 -static -s -o "$work/pause" "$work/pause.c"
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$work/Dockerfile"
  image "$work" localhost/millstream-pause:1 "$HOME_DIR/pause.tar"
  rm -rf "$work"
}

# image CONTEXT NAME FILE: builds a Dockerfile without a Docker engine.
image() {
  buildah --root "$HOME_DIR/buildah" --runroot "$HOME_DIR/buildah-run" --storage-driver vfs \
    bud --isolation chroot -q -t "$2" "$1" >/dev/null
  rm -f "$3"
  buildah --root "$HOME_DIR/buildah" --runroot "$HOME_DIR/buildah-run" --storage-driver vfs \
    push -q "$2" "docker-archive:$3:$2"
}

containerd_of() {
  local node=$1 root=$HOME_DIR/node-$1
  mkdir -p "$root/cni" "$root/containerd" "$root/state"
  cat >"$root/containerd.toml" <<TOML
version = 2
root = "$root/containerd"
state = "$root/state"
[grpc]
  address = "$root/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/millstream-pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$root/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
TOML
  cat >"$root/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "ms-node-$node", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$root/ipam", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.244.0.0/16", "rangeStart": "10.244.$node.10", "rangeEnd": "10.244.$node.250", "gateway": "$GATEWAY"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  start "containerd-$node" containerd --config "$root/containerd.toml"
  wait_for 30 "containerd of node $node" ctr -a "$root/containerd.sock" version
  ctr -a "$root/containerd.sock" -n k8s.io images import "$HOME_DIR/pause.tar" >/dev/null
}

# Two kubelets under one cgroup root would remove each other's pods.
cgroup_of() {
  local name=$1 controller
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
    [ -d "/sys/fs/cgroup/$controller" ] || continue
    mkdir -p "/sys/fs/cgroup/$controller/$name"
  done
  if [ -d /sys/fs/cgroup/cpuset ]; then
    cat /sys/fs/cgroup/cpuset/cpuset.cpus >"/sys/fs/cgroup/cpuset/$name/cpuset.cpus"
    cat /sys/fs/cgroup/cpuset/cpuset.mems >"/sys/fs/cgroup/cpuset/$name/cpuset.mems"
  fi
}

node() {
  local node=$1 root=$HOME_DIR/node-$1
  containerd_of "$node"
  cgroup_of "ms-node-$node"
  cat >"$root/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /ms-node-$node
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
imageGCHighThresholdPercent: 100
clusterDNS: [$GATEWAY]
clusterDomain: cluster.local
resolvConf: ""
port: $((10249 + node * 10 - 9))
healthzPort: $((10251 + node * 10 - 10))
containerRuntimeEndpoint: unix://$root/containerd.sock
podLogsDir: $root/pod-logs
syncFrequency: 10s
nodeStatusUpdateFrequency: 4s
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
YAML
  mkdir -p "$root/kubelet"
  kubelet_of "$node"
}

kubelet_of() {
  local node=$1 root=$HOME_DIR/node-$1
  start "kubelet-$node" setpriv --regid "$(group_of "$node")" --clear-groups \
    "$BIN/kubernetes" kubelet --config "$root/kubelet.yaml" --root-dir "$root/kubelet" \
    --kubeconfig "$KUBECONFIG_FILE" --node-ip "$(node_ip "$node")" --hostname-override "node-$node"
}

proxy_and_dns() {
  cat >"$HOME_DIR/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $KUBECONFIG_FILE}
hostnameOverride: node-1
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0}
healthzBindAddress: 127.0.0.1:10356
metricsBindAddress: 127.0.0.1:10349
iptables: {minSyncPeriod: 100ms, syncPeriod: 10s}
YAML
  start kube-proxy "$BIN/kubernetes" kube-proxy --config "$HOME_DIR/proxy.yaml"
  cat >"$HOME_DIR/Corefile" <<COREFILE
.:53 {
  bind $GATEWAY
  errors
  health 127.0.0.1:18080
  ready 127.0.0.1:18181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $KUBECONFIG_FILE local
    pods insecure
    ttl 2
  }
  cache 2
}
COREFILE
  start coredns "$BIN/coredns" -conf "$HOME_DIR/Corefile"
}

up() {
  local nodes=${1:-1} number
  [ -x "$BIN/kubernetes" ] || "$ROOT/tools/kubernetes.sh"
  [ ! -d "$HOME_DIR/pids" ] || down
  mkdir -p "$HOME_DIR/logs" "$HOME_DIR/pids"
  network
  certificates
  kubeconfig
  control_plane
  pause_image
  for number in $(seq "$nodes"); do node "$number"; done
  proxy_and_dns
  for number in $(seq "$nodes"); do
    wait_for 60 "node-$number" kubectl wait --for=condition=Ready "node/node-$number" --timeout=1s
  done
  wait_for 30 "the default service account" kubectl get serviceaccount default
  say "Kubernetes with $nodes node(s) ready after $SECONDS s"
  echo "$KUBECONFIG_FILE"
}

stop_pid() {
  local file=$HOME_DIR/pids/$1 pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  kill "${2:--TERM}" "$pid" 2>/dev/null || true
  local deadline=$((SECONDS + 10))
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { kill -KILL "$pid" 2>/dev/null || true; break; }
    read -rt 0.05 <> <(:) || true
  done
  rm -f "$file"
}

# cut_rules N: what keeps a node and its pods from everybody else. Packets vanish, as on a cable
# that is cut; the node's kubelet still reaches its own pods.
cut_rules() {
  local pods=10.244.$1.0/24 group
  group=$(group_of "$1")
  cat <<RULES
FORWARD -s $pods ! -d $pods -j DROP
FORWARD -d $pods ! -s $pods -j DROP
INPUT -s $pods -p tcp ! --sport 8081:8082 -j DROP
INPUT -s $pods -p udp -j DROP
OUTPUT -d $pods -m owner ! --gid-owner $group -j DROP
OUTPUT -p tcp --dport 6443 -m owner --gid-owner $group -j DROP
RULES
}

cut() {
  local rule
  while read -r rule; do
    # shellcheck disable=SC2086  # a rule is many words
    iptables -C $rule 2>/dev/null || iptables -I $rule
  done < <(cut_rules "$1")
}

join() {
  local rule
  while read -r rule; do
    # shellcheck disable=SC2086  # a rule is many words
    while iptables -D $rule 2>/dev/null; do :; done
  done < <(cut_rules "$1")
}

# Nothing is said at the end: no connection is closed, nobody is told.
stop_node() {
  cut "$1"
  stop_pid "kubelet-$1" -KILL
  kill_tasks "$1"
}

start_node() {
  join "$1"
  [ -f "$HOME_DIR/pids/kubelet-$1" ] || kubelet_of "$1"
}

kill_tasks() {
  local root=$HOME_DIR/node-$1 task
  [ -S "$root/containerd.sock" ] || return 0
  local ctr=(ctr -a "$root/containerd.sock" -n k8s.io)
  for task in $("${ctr[@]}" tasks ls -q 2>/dev/null); do
    "${ctr[@]}" tasks kill -s 9 "$task" >/dev/null 2>&1 || true
  done
}

remove_node() {
  local node=$1 root=$HOME_DIR/node-$1 task
  join "$node"
  stop_pid "kubelet-$node" -KILL
  kill_tasks "$node"
  [ -S "$root/containerd.sock" ] || return 0
  local ctr=(ctr -a "$root/containerd.sock" -n k8s.io)
  for task in $("${ctr[@]}" tasks ls -q 2>/dev/null); do
    "${ctr[@]}" tasks rm -f "$task" >/dev/null 2>&1 || true
  done
  for task in $("${ctr[@]}" containers ls -q 2>/dev/null); do
    "${ctr[@]}" containers rm "$task" >/dev/null 2>&1 || true
  done
}

# Chains of kube-proxy and CNI, our bridge, and network namespaces that pods left.
remove_network() {
  local table chain
  for table in nat filter mangle; do
    iptables-save -t $table 2>/dev/null | grep -vE 'KUBE-|CNI-' | iptables-restore -T $table 2>/dev/null || true
  done
  if [ -f "$HOME_DIR/uplink" ]; then
    iptables -D FORWARD -i $BRIDGE -o "$(cat "$HOME_DIR/uplink")" -j REJECT 2>/dev/null || true
  fi
  for chain in $(ip -o link show master $BRIDGE 2>/dev/null | sed -n 's/^[0-9]*: \(veth[^@:]*\).*/\1/p'); do
    ip link del "$chain" 2>/dev/null || true
  done
  ip link del $BRIDGE 2>/dev/null || true
  for chain in $(ip netns list 2>/dev/null | sed -n 's/^\(cni-[^ ]*\).*/\1/p'); do
    ip netns del "$chain" 2>/dev/null || true
  done
}

down() {
  local node mount pid
  for node in 1 2; do remove_node $node; done
  for pid in coredns kube-proxy kube-scheduler kube-controller-manager kube-apiserver; do stop_pid $pid; done
  for node in 1 2; do stop_pid "containerd-$node"; done
  # Shims outlive containerd; ours carry our directory in their arguments.
  for pid in $(pgrep -f "containerd-shim.*-address $HOME_DIR/" || true); do kill -KILL "$pid" 2>/dev/null || true; done
  stop_pid etcd
  for mount in $(awk -v home="$HOME_DIR/" 'index($2, home) == 1 {print $2}' /proc/mounts | sort -r); do
    umount -l "$mount" 2>/dev/null || true
  done
  remove_network
  rm -rf "$HOME_DIR/pids" "$HOME_DIR/etcd" "$HOME_DIR/node-1" "$HOME_DIR/node-2" "$HOME_DIR/pki"
  say "stopped after $SECONDS s"
}

load() {
  local socket
  for socket in "$HOME_DIR"/node-*/containerd.sock; do
    ctr -a "$socket" -n k8s.io images import "$1" >/dev/null
  done
}

case ${1:-} in
  up) up "${2:-1}" ;;
  down) down ;;
  load) load "${2:?usage: tools/cluster.sh load FILE}" ;;
  image) image "${2:?context}" "${3:?name}" "${4:?file}" ;;
  stop-node) stop_node "${2:?usage: tools/cluster.sh stop-node N}" ;;
  cut-node) cut "${2:?usage: tools/cluster.sh cut-node N}" ;;
  start-node) start_node "${2:?usage: tools/cluster.sh start-node N}" ;;
  *) die "usage: tools/cluster.sh up [nodes] | down | load FILE | image CONTEXT NAME FILE |" \
    "stop-node N | cut-node N | start-node N" ;;
esac
