//! Where one test plays: a namespace, topics, an operator of its own.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Kubernetes;
use super::api::{Api, Patch};
use super::flow::Flow;
use super::kubectl::{Kubectl, Ran};
use super::manifest::{Manifest, SECRET};
use super::operator::Operator;
use super::processes;
use super::world::World;
use crate::minio::Minio;
use crate::proxy::Proxy;
use crate::scratch::Scratch;
use crate::wait::{poll_until, wait_until};

const PARTITIONS: i32 = 4;
/// Long enough for pods to come up on a machine that does other things, too.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// A namespace with the restricted security profile and what a job needs in it.
#[derive(Debug)]
pub struct Stage {
    /// The cluster.
    pub cluster: &'static Kubernetes,
    /// Broker and store.
    pub world: &'static World,
    /// Its name.
    pub namespace: String,
    /// Runs from the start.
    pub operator: Operator,
    scratch: Scratch,
    logs: Cell<u32>,
}

impl Stage {
    /// Makes a namespace whose name begins with `name`, and starts an operator for it.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let stage = Self::with_operator(name, |cluster, namespace, scratch| {
            Operator::start(cluster, &[namespace], scratch.path())
        });
        stage.operator.wait_until_ready();
        stage
    }

    /// As [`new`](Self::new), with an operator of the caller's making.
    #[track_caller]
    pub fn with_operator(
        name: &str,
        operator: impl FnOnce(&Kubernetes, &str, &Scratch) -> Operator,
    ) -> Self {
        let cluster = Kubernetes::shared();
        let world = World::shared();
        let scratch = Scratch::new(&format!("kubernetes-{name}"));
        // What the scratch directory's name ends with makes this one unique as well.
        let random = scratch.path().to_string_lossy();
        let random = random
            .rsplit('-')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let namespace = format!("ms-{name}-{random}");
        make_namespace(cluster, &namespace);
        for topic in ["orders", "processed", "rejected"] {
            world
                .broker
                .create_topic(&format!("{namespace}-{topic}"), PARTITIONS);
        }
        Self {
            operator: operator(cluster, &namespace, &scratch),
            cluster,
            world,
            namespace,
            scratch,
            logs: Cell::new(0),
        }
    }

    /// Full name of one of its topics: `orders`, `processed` or `rejected`.
    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// Where a job's chain lies.
    pub fn chain(&self, job: &str) -> String {
        format!("s3://{}/kubernetes/{}/{job}", Minio::BUCKET, self.namespace)
    }

    /// Objects of a job in the store.
    pub fn stored(&self, job: &str) -> Vec<String> {
        let prefix = format!("kubernetes/{}/{job}/", self.namespace);
        self.world.minio.keys(&prefix)
    }

    /// A file for another log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.set(self.logs.get() + 1);
        self.scratch
            .join(&format!("{:03}-{name}.log", self.logs.get()))
    }

    /// The directory of its logs.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Applies a quota and waits until it counts: before that, pods are still made.
    #[track_caller]
    pub fn apply_quota(&self, quota: &Value) {
        self.kubectl().apply(quota).expect_success();
        let name = text(&quota["metadata"]["name"]);
        let path = self.path("api/v1", &format!("resourcequotas/{name}"));
        wait_until(&format!("quota {name} counts"), DEADLINE, || {
            let quota = self.api().get(&path).unwrap_or_default();
            quota["status"]["hard"].is_object()
        });
    }

    /// A proxy before the store that pods reach, see [`Manifest::with_store_at`].
    #[track_caller]
    pub fn store_proxy(&self) -> Proxy {
        let endpoint = self.world.minio.endpoint();
        Proxy::start(super::HOST, endpoint.trim_start_matches("http://"))
    }

    /// The order job of this namespace.
    #[track_caller]
    pub fn orders(&self) -> Manifest {
        Manifest::orders(&self.namespace, self.world)
    }

    /// A job without a broker.
    #[track_caller]
    pub fn generated(&self, name: &str, rows: Option<u64>) -> Manifest {
        Manifest::generated(name, rows, self.world)
    }

    /// `kubectl` in this namespace.
    pub fn kubectl(&self) -> Kubectl {
        self.cluster.kubectl(&self.namespace)
    }

    /// The API.
    pub fn api(&self) -> &'static Api {
        self.cluster.api()
    }

    /// `kubectl apply`, which must succeed.
    #[track_caller]
    pub fn apply(&self, manifest: &Manifest) {
        self.kubectl().apply(manifest.json()).expect_success();
    }

    /// `kubectl apply`, whatever it says.
    #[track_caller]
    pub fn try_apply(&self, manifest: &Manifest) -> Ran {
        self.kubectl().apply(manifest.json())
    }

    /// Path of a `StreamJob` in the API.
    pub fn job_path(&self, name: &str) -> String {
        self.path(
            &format!("apis/{}", super::GROUP),
            &format!("streamjobs/{name}"),
        )
    }

    /// Path of a `StreamSavepoint` in the API.
    pub fn savepoint_path(&self, name: &str) -> String {
        self.path(
            &format!("apis/{}", super::GROUP),
            &format!("streamsavepoints/{name}"),
        )
    }

    /// Path of what lies in this namespace, such as `("api/v1", "pods")`.
    pub fn path(&self, group: &str, rest: &str) -> String {
        format!("/{group}/namespaces/{}/{rest}", self.namespace)
    }

    /// A `StreamJob`, which must be there.
    #[track_caller]
    pub fn job(&self, name: &str) -> Value {
        let job = self.api().get(&self.job_path(name));
        job.unwrap_or_else(|| panic!("there is no StreamJob {name} in {}", self.namespace))
    }

    /// Merges a change into the spec of a `StreamJob`.
    #[track_caller]
    pub fn change(&self, name: &str, spec: &Value) {
        let change = json!({"spec": spec});
        self.api()
            .patch(&self.job_path(name), Patch::Merge, &change)
            .unwrap_or_else(|refused| panic!("{change} was refused: {refused:?}"));
    }

    /// Waits until what the API says of a job satisfies `condition`.
    #[track_caller]
    pub fn wait_for_job(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = poll_until(deadline, || {
            self.operator.tend();
            let job = self.api().get(&self.job_path(name))?;
            condition(&job).then_some(job)
        });
        found.unwrap_or_else(|| {
            panic!(
                "waited {deadline:?} in vain until {what} ({}/{name}):\n{}\n{}",
                self.namespace,
                self.describe(name),
                tail(&self.operator.output(), 30)
            )
        })
    }

    /// Waits until an event about the job has this reason.
    #[track_caller]
    pub fn wait_event(&self, job: &str, reason: &str) {
        wait_until(&format!("an event {reason} about {job}"), DEADLINE, || {
            self.event_reasons(job).iter().any(|told| told == reason)
        });
    }

    /// Waits until a condition has this value for the current generation.
    #[track_caller]
    pub fn wait_condition(&self, name: &str, condition: &str, value: &str) -> Value {
        let what = format!("{condition}={value}");
        self.wait_for_job(name, &what, DEADLINE, |job| holds(job, condition, value))
    }

    /// Waits until the current generation is ready.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) -> Value {
        self.wait_for_job(name, "it is ready", DEADLINE, |job| {
            holds(job, "Ready", "True") && !holds(job, "Reconciling", "True")
        })
    }

    /// Pods of a role (`coordinator`, `worker`, …) that are not being deleted.
    pub fn pods(&self, job: &str, role: &str) -> Vec<Value> {
        let selector = format!("millstream.dev/job%3D{job},millstream.dev/role%3D{role}");
        let path = self.path("api/v1", &format!("pods?labelSelector={selector}"));
        let mut pods = self.api().list(&path);
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    /// All pods of a job's coordinator and workers, also those that are being deleted.
    pub fn all_pods(&self, job: &str) -> Vec<Value> {
        let selector =
            format!("millstream.dev/job%3D{job},millstream.dev/role%20in%20(coordinator,worker)");
        let path = self.path("api/v1", &format!("pods?labelSelector={selector}"));
        self.api().list(&path)
    }

    /// Whether processes of a pod with one of these uids live on this machine.
    pub fn processes_live(uids: &[String]) -> bool {
        uids.iter().any(|uid| processes::live(uid))
    }

    /// Uids of all pods of a job that run for good, sorted.
    pub fn pod_uids(&self, job: &str) -> Vec<String> {
        let roles = ["coordinator", "worker"];
        let uids = roles.into_iter().flat_map(|role| self.uids_of(job, role));
        let mut uids: Vec<String> = uids.collect();
        uids.sort();
        uids
    }

    /// Uids of the pods of a role that run for good.
    pub fn uids_of(&self, job: &str, role: &str) -> Vec<String> {
        let pods = self.pods(job, role);
        pods.iter()
            .map(|pod| text(&pod["metadata"]["uid"]))
            .collect()
    }

    /// `kill -9` of the processes of all pods of a role; their containers start again. Those of
    /// the last kill may still wait for that, so it waits for one that runs.
    #[track_caller]
    pub fn kill_processes(&self, job: &str, role: &str) {
        let what = format!("a process of a {role} of {job} runs");
        wait_until(&what, DEADLINE, || {
            let pods = self.pods(job, role);
            let killed = pods.iter().map(|pod| processes::signal(pod, Signal::KILL));
            killed.sum::<usize>() > 0
        });
    }

    /// Deletes all pods of a role at once, without grace; how many.
    pub fn kill_pods(&self, job: &str, role: &str) -> usize {
        let pods = self.pods(job, role);
        for pod in &pods {
            let name = text(&pod["metadata"]["name"]);
            let path = self.path("api/v1", &format!("pods/{name}?gracePeriodSeconds=0"));
            self.api().delete(&path);
        }
        pods.len()
    }

    /// Reasons of all events about the job, in any order.
    pub fn event_reasons(&self, job: &str) -> Vec<String> {
        let events = self
            .api()
            .list(&self.path("apis/events.k8s.io/v1", "events"));
        events
            .iter()
            .filter(|event| event["regarding"]["name"] == json!(job))
            .map(|event| text(&event["reason"]))
            .collect()
    }

    /// Suspends the job, waits until its pods are gone, and audits what came out.
    #[track_caller]
    pub fn finish(&self, flow: Flow, job: &str) {
        self.finish_without(flow, job, 0);
    }

    /// As [`finish`](Self::finish), where exactly so many records of the output must be missing.
    #[track_caller]
    pub fn finish_without(&self, flow: Flow, job: &str, given_up: u64) {
        let drained = flow.drain_without(given_up);
        self.suspend(job);
        drained.audit(self, job);
    }

    /// Suspends a job and waits until its pods are gone.
    #[track_caller]
    pub fn suspend(&self, job: &str) {
        self.change(job, &json!({"state": "Suspended"}));
        self.wait_condition(job, "Suspended", "True");
        wait_until("the pods of the suspended job are gone", DEADLINE, || {
            self.pod_uids(job).is_empty()
        });
    }

    /// What a person would look at first.
    pub fn describe(&self, job: &str) -> String {
        let kubectl = self.kubectl();
        let get = kubectl.run(&["get", "streamjob", job, "-o", "yaml"]).out;
        let status = get
            .split_once("\nstatus:")
            .map_or(get.as_str(), |(_, status)| status);
        let objects = "deployments,pods,jobs,streamsavepoints";
        let all = kubectl.run(&["get", objects, "-o", "wide"]).out;
        let events = kubectl
            .run(&["get", "events", "--sort-by=.lastTimestamp"])
            .out;
        format!("status:{status}\n{all}\n{}", tail(&events, 25))
    }

    /// Everything for somebody who looks into a failure later.
    fn keep_evidence(&self) {
        let kubectl = self.kubectl();
        let objects = "streamjobs,streamsavepoints,deployments,pods,jobs,events,configmaps";
        let mut text = kubectl.run(&["get", objects, "-o", "yaml"]).out;
        for pod in self.api().list(&self.path("api/v1", "pods")) {
            let name = super::stage::text(&pod["metadata"]["name"]);
            let logs = kubectl.run(&["logs", &name, "--tail=200"]).out;
            for part in ["---- logs of ", &name, "\n", &logs, "\n"] {
                text.push_str(part);
            }
        }
        drop(std::fs::write(self.scratch.join("evidence"), text));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_evidence();
        }
        self.operator.kill();
        let group = format!("apis/{}", super::GROUP);
        let no_finalizers = json!({"metadata": {"finalizers": null}});
        for kind in ["streamjobs", "streamsavepoints"] {
            for object in self.api().list(&self.path(&group, kind)) {
                let name = text(&object["metadata"]["name"]);
                let path = self.path(&group, &format!("{kind}/{name}"));
                drop(self.api().patch(&path, Patch::Merge, &no_finalizers));
            }
        }
        self.api()
            .delete(&format!("/api/v1/namespaces/{}", self.namespace));
        for topic in ["orders", "processed", "rejected"] {
            if !std::thread::panicking() {
                self.world.broker.delete_topic(&self.topic(topic));
            }
        }
    }
}

/// Makes a namespace of the restricted profile with the store's credentials.
#[track_caller]
pub fn make_namespace(cluster: &Kubernetes, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name,
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }});
    let credentials = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        Minio::ACCESS_KEY,
        Minio::SECRET_KEY
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET}, "stringData": {"credentials": credentials}});
    let api = cluster.api();
    api.create("/api/v1/namespaces", &namespace)
        .expect("a new namespace");
    api.create(&format!("/api/v1/namespaces/{name}/secrets"), &secret)
        .expect("a secret in a new namespace");
}

/// A condition of a job.
pub fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = job["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == json!(kind))
}

/// Whether a condition has this value, for the generation that the spec has now.
pub fn holds(job: &Value, kind: &str, value: &str) -> bool {
    condition(job, kind).is_some_and(|condition| {
        condition["status"] == json!(value)
            && condition["observedGeneration"] == job["metadata"]["generation"]
    })
}

/// The reason of a condition, or nothing.
pub fn reason(job: &Value, kind: &str) -> String {
    condition(job, kind).map_or_else(String::new, |condition| text(&condition["reason"]))
}

/// The message of a condition, or nothing.
pub fn message(job: &Value, kind: &str) -> String {
    condition(job, kind).map_or_else(String::new, |condition| text(&condition["message"]))
}

/// A string of JSON; empty if it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
