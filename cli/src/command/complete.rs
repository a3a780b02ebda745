//! Completion for `kubectl`: it calls `kubectl_complete-streamjob`, a link to this binary, with
//! the words that have been typed, and expects candidates in the form of the Cobra library.
//!
//! Source: `kubectl` docs, "Extend kubectl with plugins", "Creating plugin completion".

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::arguments::{Arguments, Connection};
use crate::cluster::Cluster;
use crate::exit::{Exit, print};
use crate::problem::Problem;

/// Name of the link under which completions are asked for.
pub const LINK: &str = "kubectl_complete-streamjob";

/// Cobra's `ShellCompDirectiveNoFileComp`: do not offer files besides.
const NO_FILES: u8 = 4;
/// Cobra's `ShellCompDirectiveDefault`: offer files if there are no candidates.
const FILES: u8 = 0;

/// What can stand where the cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// One of these, each with a word of help.
    Words(Vec<(String, String)>),
    /// The name of a job.
    Jobs,
    /// A file.
    Files,
    /// Anything.
    Unknown,
}

/// Prints what can stand at the place of the last word.
///
/// # Errors
/// Standard output is closed.
pub async fn run(words: &[String]) -> Result<Exit, Problem> {
    let (done, last) = match words.split_last() {
        Some((last, done)) => (done, last.as_str()),
        None => (words, ""),
    };
    let (candidates, directive) = match candidates(done, last) {
        Candidates::Words(words) => (words, NO_FILES),
        // Without a cluster there are no candidates, and nobody to tell why.
        Candidates::Jobs => (jobs(done).await.unwrap_or_default(), NO_FILES),
        Candidates::Files => (Vec::new(), FILES),
        Candidates::Unknown => (Vec::new(), NO_FILES),
    };
    let mut text = String::new();
    for (word, help) in candidates.iter().filter(|(word, _)| word.starts_with(last)) {
        text.extend([word.as_str(), "\t", help, "\n"]);
    }
    print(&format!("{text}:{directive}\n"))?;
    Ok(Exit::Done)
}

async fn jobs(done: &[String]) -> Result<Vec<(String, String)>, Problem> {
    let cluster = Cluster::connect(&connection(done)).await?;
    let names = cluster.job_names().await?;
    Ok(names
        .into_iter()
        .map(|name| (name, String::new()))
        .collect())
}

/// The cluster that the typed words name.
fn connection(done: &[String]) -> Connection {
    let value = |names: &[&str]| {
        let mut words = done.iter();
        while let Some(word) = words.next() {
            if names.contains(&word.as_str()) {
                return words.next().cloned();
            }
            let given = word
                .split_once('=')
                .filter(|(name, _)| names.contains(name));
            if let Some((_, value)) = given {
                return Some(value.to_owned());
            }
        }
        None
    };
    Connection {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
        kubeconfig: value(&["--kubeconfig"]).map(Into::into),
        act_as: value(&["--as"]),
    }
}

/// What can stand behind the words that are done.
pub fn candidates(done: &[String], last: &str) -> Candidates {
    let mut root = Arguments::command();
    root.build();
    let mut command = &root;
    let mut positions = 0;
    let mut open: Option<&Arg> = None;
    for word in done {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open =
                option(command, word).filter(|option| takes_value(option) && !word.contains('='));
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
        } else {
            positions += 1;
        }
    }
    if let Some(option) = open {
        return values(option);
    }
    if last.starts_with('-') {
        return Candidates::Words(options(command));
    }
    if command.has_subcommands() {
        let named = command.get_subcommands().filter(|one| !one.is_hide_set());
        let words = named.map(|one| (one.get_name().to_owned(), help(one.get_about())));
        return Candidates::Words(words.collect());
    }
    command
        .get_positionals()
        .nth(positions)
        .map_or(Candidates::Unknown, values)
}

fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|one| {
        let long = one.get_long().map(|long| format!("--{long}"));
        let short = one.get_short().map(|short| format!("-{short}"));
        long.as_deref() == Some(name) || short.as_deref() == Some(name)
    })
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

fn options(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_arguments().filter(|one| !one.is_hide_set());
    let long =
        shown.filter_map(|one| Some((format!("--{}", one.get_long()?), help(one.get_help()))));
    long.collect()
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// What can be given for an option or at a place.
fn values(argument: &Arg) -> Candidates {
    let possible = argument.get_possible_values();
    if !possible.is_empty() {
        let words = possible.iter().filter(|one| !one.is_hide_set());
        let words = words.map(|one| (one.get_name().to_owned(), help(one.get_help())));
        return Candidates::Words(words.collect());
    }
    match argument.get_id().as_str() {
        "job" => Candidates::Jobs,
        "file" | "kubeconfig" => Candidates::Files,
        _ => Candidates::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Candidates {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let last = words.pop().unwrap();
        candidates(&words, &last)
    }

    fn words(line: &str) -> Vec<String> {
        match at(line) {
            Candidates::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_options_values_and_jobs_are_offered_where_they_can_stand() {
        assert!(words("").contains(&"rollback".to_owned()));
        assert!(words("upgrade ").contains(&"approve".to_owned()));
        assert!(words("status x --").contains(&"--watch".to_owned()));
        assert!(words("status x --").contains(&"--namespace".to_owned()));
        assert_eq!(words("status x -o "), ["text", "json"]);
        assert_eq!(
            words("logs x --role "),
            ["coordinator", "worker", "preflight"]
        );
        assert!(words("completion ").contains(&"bash".to_owned()));
        assert_eq!(at("status "), Candidates::Jobs);
        assert_eq!(at("-n prod status o"), Candidates::Jobs);
        assert_eq!(at("status --watch o"), Candidates::Jobs);
        assert_eq!(at("upgrade approve "), Candidates::Jobs);
        assert_eq!(at("status x "), Candidates::Unknown);
        assert_eq!(at("diff -f "), Candidates::Files);
        assert_eq!(at("status -n "), Candidates::Unknown);
    }

    #[test]
    fn jobs_are_looked_for_where_the_words_say() {
        let line = ["-n", "prod", "--context=west", "status"].map(str::to_owned);
        let connection = connection(&line);
        assert_eq!(connection.namespace.as_deref(), Some("prod"));
        assert_eq!(connection.context.as_deref(), Some("west"));
    }
}
