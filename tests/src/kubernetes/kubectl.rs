//! `kubectl`, for what people do by hand.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// `kubectl` with a kubeconfig and a namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    namespace: String,
}

/// What a command printed.
#[derive(Debug, Clone)]
pub struct Ran {
    command: String,
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Its standard output; fails unless the command succeeded.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert!(
            self.ok,
            "{} failed:\n{}{}",
            self.command, self.out, self.err
        );
        self.out
    }

    /// What it said; fails unless the command failed.
    #[track_caller]
    pub fn expect_failure(self) -> String {
        assert!(!self.ok, "{} succeeded:\n{}", self.command, self.out);
        format!("{}{}", self.out, self.err)
    }
}

impl Kubectl {
    pub(super) fn new(kubeconfig: &Path, namespace: &str) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// Runs it.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs it with text on its standard input.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl is installed");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            command: format!("kubectl {}", arguments.join(" ")),
            ok: output.status.success() && written.is_ok(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// `kubectl apply -f -`
    #[track_caller]
    pub fn apply(&self, object: &Value) -> Ran {
        self.run_with(&["apply", "-f", "-"], &object.to_string())
    }
}
