#!/usr/bin/env bash
# A place to try Millstream on this machine: a local Kubernetes with the operator, Kafka, an S3
# server, made orders and the job that works on them (examples/orders-kubernetes).
#
#   tools/playground.sh up             everything; prints what to try
#   tools/playground.sh down           stops and removes everything that `up` made
#   tools/playground.sh read TOPIC     prints what is in a topic and comes to it, once it is final
#
# Needs root and Linux, as tools/cluster.sh does. It is `make cluster` and `make cluster-down`.
source "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

CLUSTER=${MILLSTREAM_CLUSTER:-/var/lib/millstream-cluster}
PLAYGROUND=$CLUSTER/playground
export KUBECONFIG=$CLUSTER/admin.kubeconfig
# This machine as pods see it; tools/cluster.sh makes the address.
HOST=10.244.0.1
KAFKA=4.4.0
BROKER=$HOST:9092
STORE=$HOST:9000
BUCKET=millstream
NAMESPACE=orders
PATIENCE=300

wait_for() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "$what does not come up; see $PLAYGROUND/logs"
    read -rt 0.2 <> <(:) || true
  done
}

# start NAME COMMAND...: in the background, with a log and a pid file, unless it runs.
start() {
  local name=$1
  shift
  runs "$name" && return
  setsid "$@" >>"$PLAYGROUND/logs/$name.log" 2>&1 </dev/null &
  echo $! >"$PLAYGROUND/pids/$name"
}

runs() { [ -f "$PLAYGROUND/pids/$1" ] && kill -0 "$(cat "$PLAYGROUND/pids/$1")" 2>/dev/null; }

stop() {
  local pid deadline=$((SECONDS + 10))
  runs "$1" || return 0
  pid=$(cat "$PLAYGROUND/pids/$1")
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { kill -KILL "$pid" 2>/dev/null || true; break; }
    read -rt 0.1 <> <(:) || true
  done
}

kafka_tool() { java -Xmx256m -cp "$CACHE/kafka/tools/lib/*" "org.apache.kafka.tools.$@"; }

broker_answers() { kafka_tool TopicCommand --bootstrap-server $BROKER --list; }

broker() {
  local directory=$PLAYGROUND/kafka topic
  local class_path="$CACHE/kafka/$KAFKA/lib/*"
  mkdir -p "$directory"
  cat >"$directory/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://$BROKER,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://$BROKER
controller.quorum.voters=1@127.0.0.1:9093
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$directory/data
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
controlled.shutdown.enable=false
PROPERTIES
  [ -d "$directory/data" ] || java -Xmx128m -cp "$class_path" kafka.tools.StorageTool format \
    -t bWlsbHN0cmVhbXRlc3RzMQ -c "$directory/server.properties" >>"$PLAYGROUND/logs/kafka.log" 2>&1
  start kafka java -Xms256m -Xmx512m -XX:+UseG1GC -Djava.net.preferIPv4Stack=true \
    "-Dlog4j2.configurationFile=file:$ROOT/tools/kafka/$KAFKA/logging.properties" \
    -cp "$class_path" kafka.Kafka "$directory/server.properties"
  wait_for Kafka broker_answers
  for topic in orders processed-orders rejected-orders; do
    kafka_tool TopicCommand --bootstrap-server $BROKER --create --if-not-exists \
      --topic $topic --partitions 4 --replication-factor 1 >/dev/null
  done
}

store() {
  # A directory of the drive is a bucket.
  mkdir -p "$PLAYGROUND/s3/$BUCKET"
  MINIO_ROOT_USER=millstream MINIO_ROOT_PASSWORD=millstream-secret MINIO_BROWSER=off MINIO_UPDATE=off \
    start minio "$CACHE/minio/minio" server "$PLAYGROUND/s3" --address $STORE --quiet
  wait_for "The S3 server" curl -fsS "http://$STORE/minio/health/ready"
}

images() {
  local file
  for file in $("$ROOT/tools/images.sh" runtime operator busybox); do
    "$ROOT/tools/cluster.sh" load "$file"
  done
}

operator() {
  "$CACHE/bin/helm" upgrade --install millstream "$ROOT/charts/millstream-operator" \
    --namespace millstream --create-namespace --take-ownership --wait --timeout ${PATIENCE}s \
    --set image.repository=localhost/millstream-operator,image.tag=dev \
    --set test.image=localhost/busybox:dev >"$PLAYGROUND/logs/helm.log" 2>&1 ||
    die "the chart is not installed; see $PLAYGROUND/logs/helm.log"
}

# service NAME ADDRESS: a name in the jobs' namespace for something outside of the cluster.
service() {
  kubectl apply -n $NAMESPACE -f - <<YAML
apiVersion: v1
kind: Service
metadata: {name: $1}
spec:
  clusterIP: None
  ports: [{name: $1, port: ${2#*:}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $1, labels: {kubernetes.io/service-name: $1}}
addressType: IPv4
ports: [{name: $1, port: ${2#*:}}]
endpoints: [{addresses: ["${2%:*}"]}]
YAML
}

jobs() {
  kubectl create namespace $NAMESPACE --dry-run=client -o yaml | kubectl apply -f -
  kubectl label namespace $NAMESPACE --overwrite pod-security.kubernetes.io/enforce=restricted
  service kafka $BROKER
  service minio $STORE
  kubectl create secret generic s3 -n $NAMESPACE --dry-run=client -o yaml --from-literal=credentials="$(
    printf '[default]\naws_access_key_id = millstream\naws_secret_access_key = millstream-secret\n'
  )" | kubectl apply -f -
  kubectl apply -n $NAMESPACE --server-side -f "$ROOT/examples/orders-kubernetes"
} >>"$PLAYGROUND/logs/kubectl.log"

up() {
  local job
  command -v cargo >/dev/null || die "no cargo: install Rust 1.95 or newer"
  "$ROOT/tools/packages.sh"
  "$ROOT/tools/kubernetes.sh"
  "$ROOT/tools/kafka.sh" $KAFKA tools
  "$ROOT/tools/minio.sh"
  CLI=$("$ROOT/tools/binary.sh" runtime operator cli | tail -1)
  mkdir -p "$PLAYGROUND/logs" "$PLAYGROUND/pids"
  kubectl get --raw /readyz >/dev/null 2>&1 || "$ROOT/tools/cluster.sh" up 1 >/dev/null
  broker
  store
  images
  operator
  jobs
  for job in order-generator order-processor; do
    kubectl wait -n $NAMESPACE "streamjob/$job" --for=condition=Ready --timeout=${PATIENCE}s >/dev/null ||
      die "$job is not ready: kubectl describe -n $NAMESPACE streamjob/$job"
  done
  say "ready after $SECONDS s"
  what_to_try
}

what_to_try() {
  cat <<TEXT

A Kubernetes with the operator, Kafka ($BROKER), S3 ($STORE) and two stream jobs:

  export KUBECONFIG=$KUBECONFIG PATH=\$PATH:$(dirname "$CLI")
  kubectl config set-context --current --namespace=$NAMESPACE

  kubectl get sj                                       # the jobs
  tools/playground.sh read processed-orders            # what they write, as it becomes final
  kubectl describe sj order-processor                  # what it does and waits for
  kubectl scale sj order-processor --replicas=4        # rescale
  kubectl edit sj order-processor                      # change the SQL: an upgrade with a savepoint
  kubectl patch sj order-processor --type=merge -p '{"spec":{"image":"localhost/no-such:1"}}'
                                                       # a bad image: refused, the job runs on
  kubectl patch sj order-processor --type=merge -p '{"spec":{"image":"localhost/millstream:dev"}}'
  kubectl delete pod -l millstream.dev/job=order-processor   # all of its pods; it comes back by itself
  kubectl streamjob savepoint order-processor          # a savepoint; kubectl get ssp lists them
  kubectl streamjob suspend order-processor            # and resume
  kubectl delete sj order-processor                    # its state stays
  kubectl apply --server-side -f examples/orders-kubernetes/streamjob.yaml   # goes on from it
  kubectl explain streamjob.spec                       # the manual

make cluster-down stops and removes everything.
TEXT
}

down() {
  "$ROOT/tools/cluster.sh" down
  stop kafka
  stop minio
  rm -rf "$PLAYGROUND"
  say "stopped after $SECONDS s"
}

read_topic() {
  kafka_tool consumer.ConsoleConsumer --bootstrap-server $BROKER --topic "$1" --from-beginning \
    --isolation-level read_committed
}

case ${1:-} in
  up) up ;;
  down) down ;;
  read) read_topic "${2:?usage: tools/playground.sh read TOPIC}" ;;
  *) die "usage: tools/playground.sh up | down | read TOPIC" ;;
esac
