//! A real Kubernetes on this machine, and stream jobs on it.
//!
//! Reading order: [`Kubernetes`] is the cluster, [`api`] and [`kubectl`] talk to it; [`world`] is
//! the broker and the object store that its pods reach; [`operator`] runs the operator as a
//! process, whose way to the API may lead through a [`crate::proxy`]; [`manifest`] is the job,
//! [`stage`] is where one test plays: a namespace, an operator, topics; [`flow`] moves records
//! through a job and audits them; [`processes`] are what runs in pods, [`nodes`] what they run on.

pub mod api;
pub mod flow;
pub mod kubectl;
pub mod manifest;
pub mod nodes;
pub mod operator;
pub mod processes;
pub mod stage;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::{wait_for, wait_until};
use api::Api;
use kubectl::Kubectl;

/// Address of this machine that pods reach.
pub const HOST: &str = "10.244.0.1";
/// Group and version of our kinds.
pub const GROUP: &str = "millstream.dev/v1alpha1";

/// How long a new definition may take until it is served.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// A running cluster with our kinds installed.
#[derive(Debug)]
pub struct Kubernetes {
    kubeconfig: PathBuf,
    api: Api,
    _proxy: Server,
}

impl Kubernetes {
    /// The cluster that all tests share: the running one of `tools/cluster.sh`, or one that is
    /// started now and stays until `tools/cluster.sh down`.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kubernetes> = OnceLock::new();
        SHARED.get_or_init(Self::connect)
    }

    #[track_caller]
    fn connect() -> Self {
        let home = std::env::var_os("MILLSTREAM_CLUSTER").map_or_else(
            || PathBuf::from("/var/lib/millstream-cluster"),
            PathBuf::from,
        );
        let kubeconfig = home.join("admin.kubeconfig");
        let is_up = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["get", "--raw", "/readyz", "--request-timeout=5s"])
            .output()
            .is_ok_and(|output| output.status.success());
        if !is_up {
            tools::install("cluster.sh", &["up", "2"]);
        }
        let (proxy, address) = proxy(&kubeconfig, &[]);
        let cluster = Self {
            api: Api::new(&address),
            kubeconfig,
            _proxy: proxy,
        };
        cluster.install();
        cluster
    }

    /// Our kinds as this tree defines them, and images of this tree's binaries.
    #[track_caller]
    fn install(&self) {
        let crds = tools::root().join("crds");
        for kind in ["streamjobs", "streamsavepoints"] {
            let file = crds.join(format!("{kind}.millstream.dev.yaml"));
            let file = file.to_string_lossy().into_owned();
            let apply = ["apply", "--server-side", "--force-conflicts", "-f", &file];
            self.kubectl("default").run(&apply).expect_success();
            // `kubectl wait` gives up at a definition that has no status yet.
            let name = format!("{kind}.millstream.dev");
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            wait_until(&format!("{name} is established"), ESTABLISHED, || {
                let definition = self.api.get(&path);
                let definition = definition.unwrap_or_default();
                let established = stage::condition(&definition, "Established");
                established.is_some_and(|condition| condition["status"] == "True")
            });
        }
        world::load_images();
    }

    /// `kubectl` in a namespace.
    pub fn kubectl(&self, namespace: &str) -> Kubectl {
        Kubectl::new(&self.kubeconfig, namespace)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// A way to the API without TLS, with the rights of `user` (an administrator's, if not
    /// given): the address, and the process that must live as long.
    #[track_caller]
    pub fn gate(&self, user: Option<&str>) -> (Server, String) {
        let user = user.map(|user| format!("--as={user}"));
        let arguments: Vec<&str> = user.iter().map(String::as_str).collect();
        proxy(&self.kubeconfig, &arguments)
    }
}

/// Runs `kubectl proxy` on a free port.
#[track_caller]
fn proxy(kubeconfig: &Path, arguments: &[&str]) -> (Server, String) {
    let scratch = Scratch::new("kubectl-proxy");
    let mut server = Launch::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        // Its filter would refuse what only people may do.
        .args(["proxy", "--port=0", "--disable-filter=true"])
        .start(&scratch.join("log"));
    let address = wait_for("kubectl proxy listens", Duration::from_secs(30), || {
        let output = server.output();
        assert!(server.is_running(), "kubectl proxy has ended: {output}");
        let (_, rest) = output.split_once("Starting to serve on ")?;
        let (address, _) = rest.split_once('\n')?;
        Some(address.to_owned())
    });
    (server, address)
}
