//! HDFS in a scratch directory: a NameNode, or two of one name service with a JournalNode, and a
//! DataNode; on request with Kerberos ([`kerberos`]).
//!
//! ```text
//! let hdfs = Hdfs::start();
//! println!("{}", hdfs.uri("/checkpoints"));
//! ```

mod configuration;
mod kerberos;
mod web;

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Janitor, Launch, Server};
use crate::tools;
use crate::wait::{poll_until, wait_for, wait_until};
use configuration::Ports;
pub use web::Found;

const READY: Duration = Duration::from_mins(2);
const NAME_NODE: &str = "org.apache.hadoop.hdfs.server.namenode.NameNode";
const DATA_NODE: &str = "org.apache.hadoop.hdfs.server.datanode.DataNode";
const JOURNAL_NODE: &str = "org.apache.hadoop.hdfs.qjournal.server.JournalNode";
const ADMIN: &str = "org.apache.hadoop.hdfs.tools.DFSAdmin";
const HA_ADMIN: &str = "org.apache.hadoop.hdfs.tools.DFSHAAdmin";
const DEBUG_ADMIN: &str = "org.apache.hadoop.hdfs.tools.DebugAdmin";

/// A running file system. Its processes are killed and its data removed when dropped.
#[derive(Debug)]
pub struct Hdfs {
    scratch: Scratch,
    ports: Ports,
    /// One, or two of a name service.
    name_nodes: Vec<Server>,
    data_node: Server,
    /// The JournalNode, or the KDC.
    _beside: Option<Server>,
}

impl Hdfs {
    /// The user that the file system belongs to; whoever runs the tests is another one.
    pub const USER: &'static str = "millstream";
    /// The name service, where there are two NameNodes.
    pub const NAME_SERVICE: &'static str = "analytics";

    /// Starts one NameNode and one DataNode on free ports of the loopback interface, and waits until
    /// both are ready.
    #[track_caller]
    pub fn start() -> Self {
        let (scratch, ports) = prepare(1);
        configuration::write(&scratch, &ports);
        Self::start_one(scratch, ports, None)
    }

    #[track_caller]
    fn start_one(scratch: Scratch, ports: Ports, beside: Option<Server>) -> Self {
        let format = ["-format", "-nonInteractive"];
        run(&scratch, "name-node-0", NAME_NODE, &format);
        let name_nodes = vec![launch(&scratch, "name-node-0", NAME_NODE)];
        let data_node = launch(&scratch, "data-node", DATA_NODE);
        let hdfs = Self {
            scratch,
            ports,
            name_nodes,
            data_node,
            _beside: beside,
        };
        hdfs.wait_until_ready(0);
        hdfs
    }

    /// The file system that all tests of the process share. It ends with the process. Paths are for
    /// its users to keep apart.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<(Hdfs, Vec<Janitor>)> = OnceLock::new();
        let start = || {
            let hdfs = Self::start();
            let servers = hdfs.name_nodes.iter().chain([&hdfs.data_node]);
            let janitors = servers.map(|server| Janitor::of(server, hdfs.scratch.path()));
            let janitors = janitors.collect();
            (hdfs, janitors)
        };
        &SHARED.get_or_init(start).0
    }

    /// Starts two NameNodes of one name service, the first of them active, which share their edits over
    /// a JournalNode, and one DataNode.
    #[track_caller]
    pub fn start_name_service() -> Self {
        let (scratch, ports) = prepare(2);
        configuration::write(&scratch, &ports);
        let journal_node = launch(&scratch, "journal-node", JOURNAL_NODE);
        wait_until("the JournalNode answers", READY, || {
            web::is_there(ports.journal_http)
        });
        run(
            &scratch,
            "name-node-0",
            NAME_NODE,
            &["-format", "-nonInteractive"],
        );
        let first = launch(&scratch, "name-node-0", NAME_NODE);
        wait_until("the first NameNode answers", READY, || {
            web::is_there(ports.http[0])
        });
        let bootstrap = ["-bootstrapStandby", "-nonInteractive"];
        run(&scratch, "name-node-1", NAME_NODE, &bootstrap);
        let second = launch(&scratch, "name-node-1", NAME_NODE);
        let data_node = launch(&scratch, "data-node", DATA_NODE);
        wait_until("the second NameNode answers", READY, || {
            web::is_there(ports.http[1])
        });
        let hdfs = Self {
            scratch,
            ports,
            name_nodes: vec![first, second],
            data_node,
            _beside: Some(journal_node),
        };
        hdfs.make_active(0);
        hdfs.wait_until_ready(0);
        hdfs
    }

    /// Host and port of the NameNode, or the name of the name service.
    pub fn authority(&self) -> String {
        self.ports.authority()
    }

    /// `hdfs://<authority><path>`
    pub fn uri(&self, path: &str) -> String {
        format!("hdfs://{}{path}", self.authority())
    }

    /// Directory with the configuration for clients.
    pub fn client_configuration(&self) -> String {
        self.scratch.join("client").display().to_string()
    }

    /// Environment variables that name the user, and the directory with the configuration.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HADOOP_USER_NAME", Self::USER.to_owned()),
            ("HADOOP_CONF_DIR", self.client_configuration()),
        ]
    }

    /// The process of a NameNode: to kill, pause or resume.
    pub fn name_node(&mut self, index: usize) -> &mut Server {
        &mut self.name_nodes[index]
    }

    /// The process of the DataNode.
    pub fn data_node(&mut self) -> &mut Server {
        &mut self.data_node
    }

    /// Starts a NameNode again, on the same ports with the same data. It may be in safe mode when this
    /// returns.
    #[track_caller]
    pub fn restart_name_node(&mut self, index: usize) {
        self.name_nodes[index].kill();
        let name = format!("name-node-{index}");
        self.name_nodes[index] = launch(&self.scratch, &name, NAME_NODE);
    }

    /// Starts the DataNode again, on the same ports with the same data.
    #[track_caller]
    pub fn restart_data_node(&mut self) {
        self.data_node.kill();
        self.data_node = launch(&self.scratch, "data-node", DATA_NODE);
    }

    /// Turns safe mode on or off.
    #[track_caller]
    pub fn set_safe_mode(&self, is_on: bool) {
        let act = if is_on { "enter" } else { "leave" };
        run(&self.scratch, "client", ADMIN, &["-safemode", act]);
    }

    /// Makes a NameNode of the name service the active one.
    #[track_caller]
    pub fn make_active(&self, index: usize) {
        let node = format!("nn{index}");
        let arguments = ["-transitionToActive", "--forceactive", &node];
        let become_active = || try_run(&self.scratch, "client", HA_ADMIN, &arguments).ok();
        wait_for("a NameNode becomes active", READY, become_active);
    }

    /// Takes the lease of whoever writes a file, as the NameNode does itself a while after a writer's
    /// death. The file is closed then, with what has arrived of it.
    #[track_caller]
    pub fn recover_lease(&self, path: &str) {
        let arguments = ["recoverLease", "-path", path, "-retries", "20"];
        run(&self.scratch, "client", DEBUG_ADMIN, &arguments);
    }

    /// Waits until a NameNode has left safe mode, and has a DataNode.
    #[track_caller]
    pub fn wait_until_ready(&self, index: usize) {
        let http = self.ports.http[index];
        if poll_until(READY, || web::is_ready(http).then_some(())).is_none() {
            let log = |server: &Server| std::fs::read_to_string(server.log()).unwrap_or_default();
            panic!(
                "HDFS does not become ready:\n{}\n{}",
                log(&self.name_nodes[index]),
                log(&self.data_node)
            );
        }
    }

    /// Waits until a NameNode answers, active or not.
    #[track_caller]
    pub fn wait_until_answers(&self, index: usize) {
        let http = self.ports.http[index];
        wait_until("the NameNode answers", READY, || web::is_there(http));
    }

    pub(crate) fn http(&self, index: usize) -> u16 {
        self.ports.http[index]
    }
}

fn prepare(name_nodes: usize) -> (Scratch, Ports) {
    tools::install("hdfs.sh", &[]);
    let ports = Ports {
        rpc: (0..name_nodes).map(|_| free_port()).collect(),
        http: (0..name_nodes).map(|_| free_port()).collect(),
        data: [free_port(), free_port(), free_port()],
        journal_rpc: free_port(),
        journal_http: free_port(),
        kdc: None,
    };
    (Scratch::new("hdfs"), ports)
}

/// The Java command line of a program whose configuration lies in a directory of that name.
fn java(scratch: &Scratch, configuration: &str, class: &str) -> Vec<String> {
    let configuration = scratch.join(configuration);
    let jars = tools::cache().join("hdfs/lib/*");
    let class_path = format!("{}:{}", configuration.display(), jars.display());
    let kerberos = format!(
        "-Djava.security.krb5.conf={}",
        kerberos::krb5_conf(scratch).display()
    );
    let options = [
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.net.preferIPv4Stack=true",
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
        &kerberos,
        "-cp",
        &class_path,
        class,
    ];
    options.map(str::to_owned).to_vec()
}

fn launch(scratch: &Scratch, name: &str, class: &str) -> Server {
    Launch::new("java")
        .args(java(scratch, name, class))
        .env("HADOOP_USER_NAME", Hdfs::USER)
        .start(&scratch.join(&format!("{name}.log")))
}

#[track_caller]
fn run(scratch: &Scratch, configuration: &str, class: &str, arguments: &[&str]) {
    if let Err(said) = try_run(scratch, configuration, class, arguments) {
        panic!("{class} {arguments:?} fails:\n{said}");
    }
}

fn try_run(
    scratch: &Scratch,
    configuration: &str,
    class: &str,
    arguments: &[&str],
) -> Result<(), String> {
    let output = Command::new("java")
        .args(java(scratch, configuration, class))
        .args(arguments)
        .env("HADOOP_USER_NAME", Hdfs::USER)
        .output()
        .expect("java starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said(&output.stdout) + &said(&output.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_file_system_is_empty_and_takes_files() {
        let hdfs = Hdfs::start();
        assert_eq!(hdfs.files("/"), []);
        assert!(web::is_ready(hdfs.http(0)));
    }
}
