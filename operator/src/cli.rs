//! What can be typed.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Runs `StreamJob`s on Kubernetes: deploys, restores, upgrades, rescales and suspends them.
#[derive(Debug, Clone, Parser)]
#[command(name = "millstream-operator", version, about, after_help = AFTER_HELP)]
pub struct Options {
    /// Address of /metrics, /healthz and /readyz.
    #[arg(
        long,
        env = "MILLSTREAM_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Namespaces to look after, separated by commas; all of the cluster if not given.
    #[arg(
        long,
        env = "MILLSTREAM_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub namespaces: Vec<String>,
    /// Name of the lease that says which of several operators acts.
    #[arg(
        long,
        env = "MILLSTREAM_LEASE",
        value_name = "NAME",
        default_value = "millstream-operator"
    )]
    pub lease: String,
    /// Namespace of the lease: the one that the operator runs in.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub lease_namespace: String,
    /// Name of this operator, different from that of every other one that uses the lease; its
    /// host's name and a number if not given.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// How many reconciles run at once.
    #[arg(
        long,
        env = "MILLSTREAM_CONCURRENCY",
        value_name = "NUMBER",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub concurrency: u16,
    /// Which logs: a level or a list such as `info,millstream_operator=debug`.
    #[arg(
        long,
        env = "MILLSTREAM_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// How logs look. They go to standard error.
    #[arg(
        long,
        env = "MILLSTREAM_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

const AFTER_HELP: &str = "\
The Kubernetes API is found by the pod's service account or, outside of a cluster, by KUBECONFIG.
SIGTERM finishes the reconciles that run and gives the lease up. Jobs run on without an operator.
Exit codes: 0 stopped by a signal, 1 failed or no longer the one that acts, 2 wrong usage.";

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Longest name of a namespace.
const NAMESPACE_MAX: usize = 63;

fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAMESPACE_MAX || !name.bytes().all(allowed) {
        return Err(format!("`{text}` is no name of a namespace"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn namespaces_are_a_list() {
        let parse = |list: &str| {
            Options::try_parse_from(["operator", "--namespaces", list]).map(|all| all.namespaces)
        };
        assert_eq!(parse("shop").unwrap(), ["shop"]);
        assert_eq!(parse("shop, back-office").unwrap(), ["shop", "back-office"]);
        for wrong in ["", "shop,,other", "Shop", "a/b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_namespaces_the_whole_cluster_is_meant() {
        let options = Options::try_parse_from(["operator"]).unwrap();
        assert!(options.namespaces.is_empty());
    }

    #[test]
    fn every_option_has_its_line_in_the_page() {
        let page = include_str!("../../docs/operator-cli.md");
        let command = Options::command();
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                continue;
            };
            let line = page
                .lines()
                .find(|line| line.starts_with(&format!("| `--{long} ")));
            let line = line.unwrap_or_else(|| panic!("--{long} has no line"));
            let variable = argument.get_env().unwrap().to_string_lossy().into_owned();
            assert!(line.contains(&variable), "{line} lacks {variable}");
        }
    }
}
