//! A KDC, and HDFS that believes nobody without a ticket of it.

use std::path::PathBuf;

use super::configuration::{self, Ports};
use super::{Hdfs, READY, prepare};
use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::wait_until;

const KDC: &str = "org.apache.hadoop.minikdc.MiniKdc";

impl Hdfs {
    /// The realm of a file system that wants Kerberos.
    pub const REALM: &'static str = "MILLSTREAM.TEST";

    /// As [`start`](Self::start), of a file system that wants Kerberos. Its KDC knows the principal
    /// [`USER`](Self::USER).
    #[track_caller]
    pub fn start_with_kerberos() -> Self {
        let (scratch, ports) = prepare(1);
        let port = free_port();
        let ports = Ports {
            kdc: Some(port),
            ..ports
        };
        configuration::write(&scratch, &ports);
        let kdc = start_kdc(&scratch, port);
        Self::start_one(scratch, ports, Some(kdc))
    }

    /// File with the keys of all principals.
    pub fn keytab(&self) -> PathBuf {
        self.scratch.join("keytab")
    }

    /// File that says where the KDC is.
    pub fn krb5_conf(&self) -> PathBuf {
        krb5_conf(&self.scratch)
    }
}

/// Where the KDC writes it.
pub(super) fn krb5_conf(scratch: &Scratch) -> PathBuf {
    scratch.join("kdc/krb5.conf")
}

#[track_caller]
fn start_kdc(scratch: &Scratch, port: u16) -> Server {
    let directory = scratch.join("kdc");
    std::fs::create_dir_all(&directory).expect("a new directory");
    let (name, domain) = Hdfs::REALM.split_once('.').expect("two parts");
    let properties = format!(
        "org.name={name}\norg.domain={domain}\nkdc.bind.address=127.0.0.1\nkdc.port={port}\n\
         transport=TCP\ndebug=false\n"
    );
    let file = scratch.join("kdc.properties");
    std::fs::write(&file, properties).expect("a new file");
    let jars = tools::cache().join("hdfs/lib/*");
    let mut server = Launch::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars)
        .arg(KDC)
        .args([&directory, &file, &scratch.join("keytab")])
        .args(["nn/localhost", "dn/localhost", "HTTP/localhost", Hdfs::USER])
        .start(&scratch.join("kdc.log"));
    wait_until("the KDC runs", READY, || {
        assert!(server.is_running(), "the KDC ends:\n{}", server.output());
        server.output().contains("MiniKdc Running")
    });
    server
}
