//! The operator as a process beside the cluster, so that a test can kill, freeze and restart it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Kubernetes;
use crate::ports::free_port;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::wait_until;

const READY: Duration = Duration::from_secs(30);
/// Name of the release, of the lease, and of the account.
const RELEASE: &str = "millstream-operator";

/// The debug build of the operator, unless `MILLSTREAM_OPERATOR_BIN` names another.
pub fn binary() -> PathBuf {
    std::env::var_os("MILLSTREAM_OPERATOR_BIN")
        .map_or_else(|| tools::built("millstream-operator"), PathBuf::from)
}

/// An operator that looks after some namespaces.
#[derive(Debug)]
pub struct Operator {
    launch: Launch,
    log: PathBuf,
    port: u16,
    process: Mutex<Process>,
    gate: Option<Server>,
}

#[derive(Debug, Default)]
struct Process {
    server: Option<Server>,
    /// It should run: what ends by itself is started again.
    wanted: bool,
}

impl Operator {
    /// Starts one with the rights that the chart gives it, which looks after a namespace and keeps
    /// its lease there.
    #[track_caller]
    pub fn start(cluster: &Kubernetes, namespaces: &[&str], directory: &Path) -> Self {
        let user = account(cluster, namespaces[0]);
        let (gate, address) = cluster.gate(Some(&user));
        let mut operator = Self::prepare(&address, namespaces, directory, "operator");
        operator.gate = Some(gate);
        operator.run();
        operator
    }

    /// One that is not started yet and finds the API at `address`, without TLS. `name` is what its
    /// files are called.
    #[track_caller]
    pub fn prepare(address: &str, namespaces: &[&str], directory: &Path, name: &str) -> Self {
        let program = binary();
        assert!(
            std::fs::exists(&program).unwrap_or(false),
            "{} is not there: cargo build -p millstream-operator",
            program.display()
        );
        let kubeconfig = directory.join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, kubeconfig_text(address)).expect("a file of the scratch");
        let port = free_port();
        let launch = Launch::new(program)
            .env("KUBECONFIG", &kubeconfig)
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", namespaces[0])
            .args(["--log", "info"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--lease", RELEASE])
            .args(["--namespaces", &namespaces.join(",")]);
        Self {
            launch,
            log: directory.join(format!("{name}.log")),
            port,
            process: Mutex::default(),
            gate: None,
        }
    }

    /// Another program from the next start on.
    pub fn with_program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.launch = self.launch.program(program);
        self
    }

    /// Starts it, without waiting.
    #[track_caller]
    pub fn run(&self) {
        let mut process = self.process();
        process.server = Some(self.launch.start(&self.log));
        process.wanted = true;
    }

    /// Starts it again if it has ended by itself, as the kubelet would.
    #[track_caller]
    pub fn tend(&self) {
        let mut process = self.process();
        let ended = process
            .server
            .as_mut()
            .is_some_and(|server| !server.is_running());
        if process.wanted && ended {
            process.server = Some(self.launch.start(&self.log));
        }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        wait_until("the operator is ready", READY, || {
            assert!(
                self.is_running(),
                "the operator has ended:\n{}",
                self.output()
            );
            ureq::get(&url).call().is_ok()
        });
    }

    /// What it exports.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let mut answer = ureq::get(&url).call().expect("the operator answers");
        answer.body_mut().read_to_string().expect("text")
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.process()
            .server
            .as_mut()
            .is_some_and(Server::is_running)
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let process = self.process();
        process
            .server
            .as_ref()
            .expect("the operator was started")
            .pid()
    }

    /// `kill -9`, for good.
    pub fn kill(&self) {
        let mut process = self.process();
        process.wanted = false;
        if let Some(server) = &mut process.server {
            server.kill();
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has logged, over all its lives.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Makes the chart's service account and roles in a namespace; the account as a user.
#[track_caller]
pub fn account(cluster: &Kubernetes, namespace: &str) -> String {
    let output = Command::new(tools::cache().join("bin/helm"))
        .args([
            "template",
            RELEASE,
            "charts/millstream-operator",
            "--kube-version",
            "1.34.0",
        ])
        .args(["--namespace", namespace, "--set"])
        .arg(format!(
            "namespaces={{{namespace}}},rbac.aggregateRoles=false"
        ))
        .args(["--show-only", "templates/rbac.yaml"])
        .args(["--show-only", "templates/serviceaccount.yaml"])
        .current_dir(tools::root())
        .output()
        .expect("helm is installed: tools/kubernetes.sh");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm: {errors}");
    let objects = String::from_utf8_lossy(&output.stdout);
    let apply = ["apply", "-f", "-"];
    cluster
        .kubectl(namespace)
        .run_with(&apply, &objects)
        .expect_success();
    format!("system:serviceaccount:{namespace}:{RELEASE}")
}

fn kubeconfig_text(address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: gate\n\
         clusters: [{{name: gate, cluster: {{server: \"http://{address}\"}}}}]\n\
         users: [{{name: gate, user: {{}}}}]\n\
         contexts: [{{name: gate, context: {{cluster: gate, user: gate}}}}]\n"
    )
}
