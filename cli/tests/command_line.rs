//! The binary as people meet it: its words, its exit codes, its manual.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str], kubeconfig: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-streamjob"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_committed_manual_page_is_current() {
    let path = format!(
        "{}/../docs/reference/kubectl-streamjob.1",
        env!("CARGO_MANIFEST_DIR")
    );
    let output = run(&["man"], Path::new("/nonexistent"));
    assert!(output.status.success(), "{}", stderr(&output));
    let page = String::from_utf8(output.stdout).unwrap();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed, page,
        "{path} is not current; run the test with UPDATE_EXPECT=1 and look at the change"
    );
}

#[test]
fn the_guide_explains_every_command_and_exit_code() {
    let path = format!(
        "{}/../docs/kubectl-streamjob.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let guide = std::fs::read_to_string(path).unwrap();
    let help = run(&["--help"], Path::new("/nonexistent"));
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help
        .split_once("Commands:")
        .unwrap()
        .1
        .split_once("Options:")
        .unwrap()
        .0;
    let names: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() >= 13, "{names:?}");
    for name in names {
        assert!(
            guide.contains(&format!("## {name}")),
            "no section about `{name}`"
        );
    }
    for code in ["| 0 |", "| 1 |", "| 2 |", "| 3 |", "| 4 |", "| 130 |"] {
        assert!(guide.contains(code), "exit code {code}");
    }
}

#[test]
fn completions_know_the_commands_of_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell], Path::new("/nonexistent"));
        assert!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["savepoint", "rollback", "report", "approve"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for line in [
        &["status"] as &[&str],
        &["nonsense"],
        &["savepoint", "x", "--name", "A_B"],
    ] {
        let output = run(line, Path::new("/nonexistent"));
        assert_eq!(
            output.status.code(),
            Some(2),
            "{line:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn without_a_kubeconfig_it_says_how_to_give_one() {
    let output = run(&["status", "orders"], Path::new("/nonexistent/config"));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("error: there is no cluster to talk to"),
        "{text}"
    );
    assert!(text.contains("/nonexistent/config"), "{text}");
    assert!(text.contains("--kubeconfig"), "{text}");
}

#[test]
fn a_cluster_that_is_down_is_told_with_its_address() {
    // A port that nobody listens at: it was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, kubeconfig(port)).unwrap();
    let output = run(&["status", "orders"], &path);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!(
            "the API server http://127.0.0.1:{port} does not answer"
        )),
        "{text}"
    );
    assert!(text.contains("kubectl cluster-info"), "{text}");
    let output = run(&["status", "orders", "--context", "other"], &path);
    let text = stderr(&output);
    assert!(
        text.contains("other") && text.contains("kubectl config get-contexts"),
        "{text}"
    );
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n"
    )
}
