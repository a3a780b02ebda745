//! The broker and the object store that pods reach, and the images that they run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::HOST;
use crate::kafka::{Broker, BrokerOptions, KafkaVersion};
use crate::minio::Minio;
use crate::server::Janitor;
use crate::tools;

/// Image of the runtime.
pub const IMAGE: &str = "localhost/millstream:dev";
/// The same image under another name: a new version without a change.
pub const NEXT_IMAGE: &str = "localhost/millstream:next";

/// What all jobs of a test process use.
#[derive(Debug)]
pub struct World {
    /// A broker.
    pub broker: Broker,
    /// A store.
    pub minio: Minio,
    _janitors: [Janitor; 2],
}

impl World {
    /// The one of this process, which ends with it.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        SHARED.get_or_init(|| {
            let broker = Broker::start(BrokerOptions {
                host: Some(HOST),
                ..BrokerOptions::version(KafkaVersion::V3_9)
            });
            let minio = Minio::start_on(HOST);
            Self {
                _janitors: [broker.janitor(), minio.janitor()],
                broker,
                minio,
            }
        })
    }
}

fn home() -> PathBuf {
    std::env::var_os("MILLSTREAM_CLUSTER").map_or_else(
        || PathBuf::from("/var/lib/millstream-cluster"),
        PathBuf::from,
    )
}

/// Builds the runtime's image and imports it under both names.
#[track_caller]
pub(super) fn load_images() {
    for socket in load_image("runtime", "millstream") {
        ctr(&socket, &["tag", "--force", IMAGE, NEXT_IMAGE]);
    }
}

/// Builds an image of `tools/images.sh` and imports it where a node does not have it yet; sockets of
/// the nodes that did not.
#[track_caller]
pub fn load_image(part: &str, name: &str) -> Vec<PathBuf> {
    let file = PathBuf::from(tools::install("images.sh", &[part]).trim_end());
    let hash = std::fs::read_to_string(file.with_extension("tar.hash")).unwrap_or_default();
    let mut sockets = Vec::new();
    for node in ["node-1", "node-2"] {
        let directory = home().join(node);
        let socket = directory.join("containerd.sock");
        let mark = directory.join(format!("{name}.hash"));
        let is_there = std::fs::read_to_string(&mark).is_ok_and(|mark| mark == hash);
        if is_there || !std::fs::exists(&socket).unwrap_or(false) {
            continue;
        }
        ctr(&socket, &["import", &file.to_string_lossy()]);
        std::fs::write(&mark, &hash).expect("the cluster's directory is ours");
        sockets.push(socket);
    }
    sockets
}

/// Gives the runtime's image another name on every node: a push of an image.
#[track_caller]
pub fn push_image(name: &str) {
    for node in ["node-1", "node-2"] {
        let socket = home().join(node).join("containerd.sock");
        if std::fs::exists(&socket).unwrap_or(false) {
            ctr(&socket, &["tag", "--force", IMAGE, name]);
        }
    }
}

#[track_caller]
fn ctr(socket: &Path, arguments: &[&str]) {
    let output = Command::new("ctr")
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images"])
        .args(arguments)
        .output()
        .expect("ctr is installed");
    assert!(
        output.status.success(),
        "ctr images {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
