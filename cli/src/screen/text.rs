//! The screen as text. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use millstream_types::text::{bytes, number};

use super::views::{CheckpointView, ConditionView};
use super::{Screen, load};
use crate::text::{count, millis, one_line, since, table, wrapped};

/// Columns that text is broken at.
const COLUMNS: usize = 110;
/// Columns of an event's message.
const EVENT_COLUMNS: usize = 120;

/// Conditions whose usual value is `True`; others are worth a line only when they are `True`.
const USUALLY_TRUE: [&str; 5] = [
    "Ready",
    "Valid",
    "CheckpointHealthy",
    "RestoredFromState",
    "Audit",
];

impl Screen {
    /// The screen as text, at a time.
    pub fn text(&self, now: Timestamp) -> String {
        let sections = [
            self.head(now),
            self.facts(now),
            self.waits_text(now),
            self.conditions_text(now),
            self.pods_text(now),
            self.checkpoints_text(now),
            self.savepoints_text(now),
            self.tasks_text(),
            self.operators_text(),
            self.events_text(now),
            self.gaps_text(),
        ];
        let shown: Vec<String> = sections
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        shown.join("\n")
    }

    fn head(&self, now: Timestamp) -> String {
        let age = self.since.map(|time| format!(" for {}", since(time, now)));
        let (namespace, name) = (&self.namespace, &self.name);
        let answers = self.attempt.number.is_some();
        let console = format!(" (console: kubectl streamjob ui {name} -n {namespace})");
        let mut text = format!(
            "StreamJob {namespace}/{name}: {}{}{}\n",
            self.state,
            age.unwrap_or_default(),
            if answers { &console } else { "" }
        );
        let is_said_below = |message: &&String| {
            // The headline may be a long message cut short.
            let message = message.trim_end_matches(['…', '.']);
            self.waits_for
                .iter()
                .any(|wait| wait.what.contains(message))
        };
        if let Some(message) = self.message.as_ref().filter(|text| !is_said_below(text)) {
            text.push_str(&wrapped(message, "  ", COLUMNS));
        }
        text
    }

    fn facts(&self, now: Timestamp) -> String {
        let mut facts = Facts::default();
        self.deployment_facts(&mut facts);
        self.attempt_facts(&mut facts);
        match &self.checkpoint {
            Some(checkpoint) => {
                facts.add("last checkpoint", &checkpoint_text(checkpoint, now));
                if let Some(path) = &checkpoint.path {
                    facts.add("", path);
                }
            }
            None => facts.add("last checkpoint", "none yet"),
        }
        let stopped = self.deployment.restore_point.as_ref();
        if let Some(path) = stopped.filter(|_| self.state != "Running") {
            facts.add("stopped with", path);
        }
        facts.text
    }

    fn deployment_facts(&self, facts: &mut Facts) {
        let deployment = &self.deployment;
        if deployment.wanted != "Running" {
            facts.add("wanted", &deployment.wanted);
        }
        if let Some(image) = &deployment.image {
            let wanted = if deployment.is_current {
                ""
            } else {
                " (wanted)"
            };
            facts.add("image", &format!("{image}{wanted}"));
        }
        if let Some(revision) = &deployment.revision {
            let good = if deployment.is_good {
                "good"
            } else {
                "not proved yet"
            };
            let back = deployment.rolled_back_from.as_ref();
            let back = back.map_or_else(String::new, |from| format!(", rolled back from {from}"));
            facts.add("revision", &format!("{revision} ({good}{back})"));
        }
        let wanted = deployment.parallelism_wanted;
        let parallelism = match (deployment.parallelism, wanted) {
            (Some(runs), Some(wanted)) if runs != wanted => format!("{runs}, wanted {wanted}"),
            (Some(runs), _) => runs.to_string(),
            (None, Some(wanted)) => wanted.to_string(),
            (None, None) => return,
        };
        let workers = deployment.workers.filter(|(_, all)| *all > 0);
        let workers = workers.map(|(ready, all)| format!("; {ready} of {all} workers ready"));
        facts.add("parallelism", &(parallelism + &workers.unwrap_or_default()));
    }

    fn attempt_facts(&self, facts: &mut Facts) {
        let attempt = &self.attempt;
        if let Some(number) = attempt.number {
            let mut text = number.to_string();
            if let Some(restarts) = attempt.restarts {
                let restarts = count(restarts, "restart");
                text.extend([", ", &restarts, " since the coordinator began"]);
            }
            if let Ok(restarts @ 1..) = u64::try_from(attempt.container_restarts) {
                text.extend([", ", &count(restarts, "restart"), " of containers"]);
            }
            facts.add("attempt", &text);
        }
        if let Some(path) = &attempt.restored_from {
            facts.add("restored from", path);
        }
        if let Some(failure) = &attempt.last_failure {
            facts.add("last failure", &one_line(failure, 2 * COLUMNS));
        }
    }

    fn waits_text(&self, now: Timestamp) -> String {
        if self.waits_for.is_empty() {
            return "Waits for nothing\n".to_owned();
        }
        let mut text = "Waits for\n".to_owned();
        for wait in &self.waits_for {
            let age = wait.since.map(|time| format!(", for {}", since(time, now)));
            let line = format!("{}{}", wait.what, age.unwrap_or_default());
            text.push_str(&wrapped(&line, "  ", COLUMNS));
            if let Some(hint) = &wait.hint {
                text.push_str(&wrapped(&format!("→ {hint}"), "    ", COLUMNS));
            }
        }
        text
    }

    fn conditions_text(&self, now: Timestamp) -> String {
        let worth = |condition: &&ConditionView| {
            let usually_true = USUALLY_TRUE.contains(&condition.condition_type.as_str());
            let is_known = condition.reason != "Unknown";
            (usually_true || condition.status != "False") && is_known
        };
        let is_usual = |condition: &&ConditionView| {
            let usually_true = USUALLY_TRUE.contains(&condition.condition_type.as_str());
            usually_true && condition.status == "True" && !condition.is_outdated
        };
        let shown = self.conditions.iter().filter(worth);
        let (usual, other): (Vec<_>, Vec<_>) = shown.partition(is_usual);
        let rows = other.into_iter().map(|condition| {
            let old = if condition.is_outdated {
                " (of an older spec)"
            } else {
                ""
            };
            vec![
                condition.condition_type.clone(),
                condition.status.clone(),
                condition.reason.clone() + old,
                since(condition.since, now),
            ]
        });
        let head = ["TYPE", "STATUS", "REASON", "FOR"];
        let mut text = section("Conditions", &head, rows.collect());
        let usual: Vec<String> = usual
            .into_iter()
            .map(|one| format!("{} {}", one.condition_type, since(one.since, now)))
            .collect();
        if !usual.is_empty() {
            let title = if text.is_empty() { "Conditions\n" } else { "" };
            text.extend([title, "  True, as usual: ", &usual.join(", "), "\n"]);
        }
        text
    }

    fn pods_text(&self, now: Timestamp) -> String {
        let rows = self.pods.iter().map(|pod| {
            vec![
                pod.name.clone(),
                pod.role.clone(),
                pod.ready.clone(),
                pod.status.clone(),
                match &pod.last_end {
                    Some(end) => {
                        let age = since(end.at, now);
                        format!("{} ({} {age} ago)", pod.restarts, end.reason)
                    }
                    None => pod.restarts.to_string(),
                },
                age_cell(pod.created, now),
                pod.node.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        let head = ["NAME", "ROLE", "READY", "STATUS", "RESTARTS", "AGE", "NODE"];
        section("Pods", &head, rows.collect())
    }

    fn checkpoints_text(&self, now: Timestamp) -> String {
        let rows = self.checkpoints.iter().map(|checkpoint| {
            let state = match &checkpoint.failure {
                Some(failure) => format!("{}: {}", checkpoint.state, one_line(failure, 60)),
                None => checkpoint.state.clone(),
            };
            vec![
                checkpoint.id.to_string(),
                checkpoint.kind.clone(),
                age_cell(checkpoint.at, now),
                cell(checkpoint.duration_ms.map(millis)),
                cell(size_of(checkpoint)),
                state,
            ]
        });
        let head = ["ID", "KIND", "AGE", "TOOK", "SIZE", "STATE"];
        section("Checkpoints", &head, rows.collect())
    }

    fn savepoints_text(&self, now: Timestamp) -> String {
        let rows = self.savepoints.iter().map(|savepoint| {
            let size = savepoint
                .size_bytes
                .and_then(|size| u64::try_from(size).ok());
            vec![
                savepoint.name.clone(),
                savepoint.state.clone(),
                age_cell(savepoint.created, now),
                cell(size.map(bytes)),
                cell(savepoint.path.clone().or_else(|| {
                    let message = savepoint.message.as_ref();
                    message.map(|message| one_line(message, COLUMNS))
                })),
            ]
        });
        let head = ["NAME", "STATE", "AGE", "SIZE", "PATH"];
        section("Savepoints", &head, rows.collect())
    }

    fn tasks_text(&self) -> String {
        let head = [
            "TASK",
            "SUBTASKS",
            "BUSY",
            "BACKPRESSURED",
            "IDLE",
            "QUEUE",
            "WATERMARK",
            "SLOWEST BARRIER",
            "STATE",
        ];
        section("Tasks", &head, load::rows(&self.tasks))
    }

    fn operators_text(&self) -> String {
        let rows = self.operators.iter().map(|operator| {
            vec![
                operator.name.clone(),
                number(operator.records_in),
                number(operator.records_out),
                number(operator.dead_letters),
                number(operator.skipped),
            ]
        });
        let head = ["OPERATOR", "IN", "OUT", "DEAD LETTERS", "SKIPPED"];
        section("Records", &head, rows.collect())
    }

    fn events_text(&self, now: Timestamp) -> String {
        let rows = self.events.iter().map(|event| {
            let times = if event.count > 1 {
                format!(" (×{})", event.count)
            } else {
                String::new()
            };
            vec![
                age_cell(event.at, now),
                event.event_type.clone(),
                event.object.clone(),
                event.reason.clone() + &times,
                one_line(&event.message, EVENT_COLUMNS),
            ]
        });
        let head = ["AGE", "TYPE", "OBJECT", "REASON", "MESSAGE"];
        section("Events", &head, rows.collect())
    }

    fn gaps_text(&self) -> String {
        let mut text = String::new();
        for gap in &self.gaps {
            text.push_str(&wrapped(&format!("not shown: {gap}"), "", COLUMNS));
        }
        text
    }
}

fn section(title: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("{title}\n{}", table(head, rows))
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn age_cell(time: Option<Timestamp>, now: Timestamp) -> String {
    cell(time.map(|time| since(time, now)))
}

fn checkpoint_text(checkpoint: &CheckpointView, now: Timestamp) -> String {
    let mut text = format!("{}", checkpoint.id);
    let at = checkpoint
        .at
        .map(|time| format!(", {} ago", since(time, now)));
    let took = checkpoint
        .duration_ms
        .map(|took| format!(", took {}", millis(took)));
    let size = size_of(checkpoint).map(|size| format!(", {size}"));
    for part in [at, took, size].into_iter().flatten() {
        text.push_str(&part);
    }
    text
}

/// The size of a checkpoint, and what of it is new where it shares files with older ones.
fn size_of(checkpoint: &CheckpointView) -> Option<String> {
    let new = checkpoint.checkpointed_size;
    let new = new.map_or_else(String::new, |new| format!(" ({} new)", bytes(new)));
    let size = checkpoint.size_bytes?;
    Some(format!("{}{new}", bytes(size)))
}

/// Names and values that line up.
#[derive(Default)]
struct Facts {
    text: String,
}

impl Facts {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _written = writeln!(self.text, "  {name:<16} {value}");
    }
}
