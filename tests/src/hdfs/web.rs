//! What a NameNode says over HTTP: of itself, and of files, without a client of HDFS.

use serde_json::Value;

use super::Hdfs;

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its whole path.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Hdfs {
    /// All files below a directory, also those that are being written, as the active NameNode lists
    /// them; in order of their paths.
    #[track_caller]
    pub fn files(&self, directory: &str) -> Vec<Found> {
        let mut found = Vec::new();
        self.collect(directory.trim_end_matches('/'), &mut found);
        found.sort();
        found
    }

    /// What a small file says.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        self.web(path, "OPEN").expect("the file is there")
    }

    fn collect(&self, directory: &str, found: &mut Vec<Found>) {
        let Some(answer) = self.web(directory, "LISTSTATUS") else {
            return;
        };
        let answer: Value = serde_json::from_str(&answer).expect("a NameNode answers with JSON");
        let children = answer["FileStatuses"]["FileStatus"].as_array();
        for child in children.into_iter().flatten() {
            let name = child["pathSuffix"].as_str().expect("a child has a name");
            let path = format!("{directory}/{name}");
            if child["type"] == "DIRECTORY" {
                self.collect(&path, found);
            } else {
                let bytes = child["length"].as_u64().expect("a file has a size");
                found.push(Found { path, bytes });
            }
        }
    }

    /// `None` where there is no such path.
    #[track_caller]
    fn web(&self, path: &str, operation: &str) -> Option<String> {
        let mut refused = String::new();
        for index in 0..self.ports.http.len() {
            let url = format!(
                "http://127.0.0.1:{}/webhdfs/v1{}?op={operation}&user.name={}",
                self.http(index),
                escaped(path),
                Self::USER
            );
            match ureq::get(&url).call() {
                Ok(mut answer) => {
                    let text = answer.body_mut().read_to_string();
                    return Some(text.expect("the answer is text"));
                }
                Err(ureq::Error::StatusCode(404)) => return None,
                // The other NameNode may be the active one.
                Err(error) => refused = error.to_string(),
            }
        }
        panic!("no NameNode answers {operation} of {path}: {refused}");
    }
}

/// A path in a URL: names of ours hold `%`.
fn escaped(path: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    path.replace('%', "%25")
}

pub(super) fn is_there(port: u16) -> bool {
    ureq::get(format!("http://127.0.0.1:{port}/jmx"))
        .call()
        .is_ok()
}

/// Whether a NameNode takes writes and has a DataNode to write to.
pub(super) fn is_ready(port: u16) -> bool {
    let bean = |name: &str| -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}/jmx?qry=Hadoop:service=NameNode,name={name}");
        let text = ureq::get(&url)
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        answer["beans"].get(0).cloned()
    };
    let is_open = bean("NameNodeInfo").is_some_and(|it| it["Safemode"] == "");
    is_open && bean("FSNamesystemState").is_some_and(|it| it["NumLiveDataNodes"] == 1)
}
