//! `core-site.xml` and `hdfs-site.xml` of each process, and of clients.

use std::fmt::Write;

use super::Hdfs;
use crate::scratch::Scratch;

/// Ports of all processes.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    /// Of each NameNode.
    pub(super) rpc: Vec<u16>,
    /// Of each NameNode.
    pub(super) http: Vec<u16>,
    /// Of the DataNode: for data, for HTTP, and for its own protocol.
    pub(super) data: [u16; 3],
    pub(super) journal_rpc: u16,
    pub(super) journal_http: u16,
    /// Of the KDC, where the file system wants Kerberos.
    pub(super) kdc: Option<u16>,
}

impl Ports {
    /// Host and port of the NameNode, or the name of the name service.
    pub(super) fn authority(&self) -> String {
        match *self.rpc {
            // Principals have names, not numbers.
            [port] if self.kdc.is_some() => format!("localhost:{port}"),
            [port] => format!("127.0.0.1:{port}"),
            _ => Hdfs::NAME_SERVICE.to_owned(),
        }
    }
}

type Properties = Vec<(String, String)>;

/// Writes a directory of configuration for every process and for clients.
pub(super) fn write(scratch: &Scratch, ports: &Ports) {
    for index in 0..ports.rpc.len() {
        let name = format!("name-node-{index}");
        write_one(scratch, &name, ports, &server(scratch, ports, index));
    }
    for name in ["data-node", "journal-node"] {
        write_one(scratch, name, ports, &server(scratch, ports, 0));
    }
    write_one(scratch, "client", ports, &client(ports));
}

fn write_one(scratch: &Scratch, name: &str, ports: &Ports, properties: &Properties) {
    let directory = scratch.join(name);
    // The jars carry no web pages, and a NameNode does not start without the directories.
    for page in ["hdfs", "datanode", "static", "secondary", "journal"] {
        std::fs::create_dir_all(directory.join("webapps").join(page)).expect("a new directory");
    }
    let mut core = vec![property(
        "fs.defaultFS",
        &format!("hdfs://{}", ports.authority()),
    )];
    if ports.kdc.is_some() {
        core.push(property("hadoop.security.authentication", "kerberos"));
        core.push(property(
            "hadoop.security.auth_to_local",
            "RULE:[1:$1](.*)s/@.*// RULE:[2:$1](.*)s/@.*// DEFAULT",
        ));
    }
    let log = "log4j.rootLogger=INFO,out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
               log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
               log4j.appender.out.layout.ConversionPattern=%d %p %c{2}: %m%n\n";
    for (file, text) in [
        ("core-site.xml", &xml(&core)),
        ("hdfs-site.xml", &xml(properties)),
        ("log4j.properties", &log.to_owned()),
    ] {
        std::fs::write(directory.join(file), text).expect("a new file");
    }
}

fn property(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What servers and clients of a name service share.
fn client(ports: &Ports) -> Properties {
    let mut properties = Vec::new();
    if ports.rpc.len() > 1 {
        let service = Hdfs::NAME_SERVICE;
        properties.push(property("dfs.nameservices", service));
        let nodes: Vec<String> = (0..ports.rpc.len())
            .map(|index| format!("nn{index}"))
            .collect();
        properties.push(property(
            &format!("dfs.ha.namenodes.{service}"),
            &nodes.join(","),
        ));
        for (index, node) in nodes.iter().enumerate() {
            for (kind, ports) in [("rpc", &ports.rpc), ("http", &ports.http)] {
                properties.push(property(
                    &format!("dfs.namenode.{kind}-address.{service}.{node}"),
                    &format!("127.0.0.1:{}", ports[index]),
                ));
            }
        }
        properties.push(property(
            &format!("dfs.client.failover.proxy.provider.{service}"),
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider",
        ));
    }
    if ports.kdc.is_some() {
        properties.push(property("dfs.data.transfer.protection", "authentication"));
        for (role, name) in [("namenode", "nn"), ("datanode", "dn")] {
            properties.push(property(
                &format!("dfs.{role}.kerberos.principal"),
                &format!("{name}/localhost@{}", Hdfs::REALM),
            ));
        }
    }
    properties
}

/// What servers need to know themselves by Kerberos.
fn kerberos(scratch: &Scratch) -> Properties {
    let keytab = scratch.join("keytab").display().to_string();
    let web = format!("HTTP/localhost@{}", Hdfs::REALM);
    [
        ("dfs.namenode.keytab.file", &*keytab),
        ("dfs.datanode.keytab.file", &keytab),
        ("dfs.web.authentication.kerberos.keytab", &keytab),
        ("dfs.web.authentication.kerberos.principal", &web),
        ("dfs.block.access.token.enable", "true"),
        ("ignore.secure.ports.for.testing", "true"),
        // The root belongs to the principal of the NameNode.
        ("dfs.permissions.enabled", "false"),
    ]
    .map(|(name, value)| property(name, value))
    .to_vec()
}

fn server(scratch: &Scratch, ports: &Ports, index: usize) -> Properties {
    let mut properties = client(ports);
    if ports.kdc.is_some() {
        properties.extend(kerberos(scratch));
    }
    let mut set = |name: &str, value: &str| properties.push(property(name, value));
    let directory = |name: &str| format!("file://{}", scratch.join(name).display());
    if ports.rpc.len() > 1 {
        let service = Hdfs::NAME_SERVICE;
        set("dfs.ha.namenode.id", &format!("nn{index}"));
        set(
            "dfs.namenode.shared.edits.dir",
            &format!("qjournal://127.0.0.1:{}/{service}", ports.journal_rpc),
        );
        // The JournalNode refuses whoever is not the newest active one.
        set("dfs.ha.fencing.methods", "shell(/bin/true)");
        set("dfs.ha.nn.not-become-active-in-safemode", "false");
        set("dfs.ha.tail-edits.period", "1s");
    } else {
        set(
            "dfs.namenode.http-address",
            &format!("127.0.0.1:{}", ports.http[index]),
        );
    }
    set(
        "dfs.journalnode.edits.dir",
        &scratch.join("journal").display().to_string(),
    );
    let [data, http, ipc] = ports.data;
    for (name, port) in [
        ("dfs.journalnode.rpc-address", ports.journal_rpc),
        ("dfs.journalnode.http-address", ports.journal_http),
        ("dfs.datanode.address", data),
        ("dfs.datanode.http.address", http),
        ("dfs.datanode.ipc.address", ipc),
    ] {
        set(name, &format!("127.0.0.1:{port}"));
    }
    set("dfs.namenode.rpc-bind-host", "127.0.0.1");
    set("dfs.datanode.hostname", "127.0.0.1");
    set(
        "dfs.namenode.datanode.registration.ip-hostname-check",
        "false",
    );
    set(
        "dfs.namenode.name.dir",
        &directory(&format!("names-{index}")),
    );
    set("dfs.datanode.data.dir", &directory("data"));
    set("dfs.replication", "1");
    set("dfs.namenode.safemode.extension", "0");
    set("dfs.heartbeat.interval", "1");
    // A DataNode that is gone is not written to any more after two seconds.
    set("dfs.namenode.heartbeat.recheck-interval", "500");
    set("dfs.permissions.superusergroup", Hdfs::USER);
    set("dfs.namenode.redundancy.interval.seconds", "1s");
    properties
}

fn xml(properties: &Properties) -> String {
    let mut text = "<?xml version=\"1.0\"?>\n<configuration>\n".to_owned();
    for (name, value) in properties {
        writeln!(
            text,
            "<property><name>{name}</name><value>{value}</value></property>"
        )
        .expect("text can be written");
    }
    text.push_str("</configuration>\n");
    text
}
