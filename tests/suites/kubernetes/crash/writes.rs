//! Writes of the operator, told apart by what they do, and the operator killed at one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_tests::kubernetes::stage::text;
use millstream_tests::proxy::{Action, Hook, Request};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// On which side of a write the operator dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// A write by what it does, and how many alike came before it in its run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Write {
    what: String,
    before: usize,
}

impl Write {
    fn is_status(&self) -> bool {
        self.what.contains("/status")
    }
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.what)?;
        match self.before {
            0 => Ok(()),
            before => write!(f, " ({})", before + 1),
        }
    }
}

/// What the proxy does: takes note of writes, and kills at one.
#[derive(Debug, Default)]
pub(super) struct Killer {
    log: Mutex<Vec<Write>>,
    pub(super) victim: Mutex<Option<i32>>,
    died: AtomicBool,
}

impl Killer {
    /// What to do with a request, given the write to kill at.
    pub(super) fn judge(self: &Arc<Self>, request: &Request, at: Option<&(Write, Side)>) -> Action {
        if !is_write(request) {
            return Action::Forward;
        }
        let what = identity(request);
        let write = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let before = log.iter().filter(|write| write.what == what).count();
            log.push(Write { what, before });
            log.last().cloned()
        };
        let killer = Arc::clone(self);
        let hook: Hook = Box::new(move || killer.kill());
        match at {
            Some((at, Side::Before)) if Some(at) == write.as_ref() => Action::CutBefore(hook),
            Some((at, Side::After)) if Some(at) == write.as_ref() => Action::CutAfter(hook),
            _ => Action::Forward,
        }
    }

    fn kill(&self) {
        let victim = *self.victim.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = victim.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _gone = kill_process(pid, Signal::KILL);
        }
        self.died.store(true, Ordering::SeqCst);
    }

    /// Whether the operator was killed.
    pub(super) fn has_killed(&self) -> bool {
        self.died.load(Ordering::SeqCst)
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }
}

/// Writes of the first run that the second one makes too, in their order. The others only tell of a
/// moment that a run may not see, and so does a status that stands where it stood: how many of
/// those there are depends on how many checkpoints complete meanwhile.
pub(super) fn in_both(one: &[Write], other: &[Write]) -> Vec<Write> {
    one.iter()
        .filter(|write| write.before == 0 || !write.is_status())
        .filter(|write| other.contains(write))
        .cloned()
        .collect()
}

pub(super) fn is_write(request: &Request) -> bool {
    let place = request.place();
    request.method != "GET" && !place.contains("/leases") && !place.contains("/events")
}

/// What a write does: to which object, and if that is a status, to which part of an upgrade's or a
/// savepoint's course it belongs.
fn identity(request: &Request) -> String {
    let place = request.place();
    let place = place.split("/namespaces/").nth(1).unwrap_or(place);
    let place = place.split_once('/').map_or(place, |(_, inner)| inner);
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut what = format!("{} {}", request.method, numberless(place));
    if let Some(finalizers) = body["metadata"]["finalizers"].as_array() {
        what.push_str(if finalizers.is_empty() {
            " releases"
        } else {
            " holds"
        });
    }
    if place.ends_with("/status") {
        what.push_str(&course(&body["status"]));
    }
    what
}

/// Where a status stands in the course of things, without what only a moment shows.
fn course(status: &Value) -> String {
    let upgrade = &status["upgrade"];
    let parts = [
        ("step", text(&upgrade["step"])),
        ("savepoint", is_there(&upgrade["savepoint"])),
        ("restoreFrom", is_there(&upgrade["restoreFrom"])),
        ("deployed", is_there(&status["deployed"])),
        ("claimed", is_true(&status["deployed"]["claimed"])),
        ("rejected", is_there(&status["rejected"])),
        ("rolledBackFrom", is_there(&status["rolledBackFrom"])),
        ("completedAt", is_there(&status["completedAt"])),
        ("path", is_there(&status["path"])),
    ];
    let given: BTreeMap<_, _> = parts.into_iter().filter(|(_, it)| !it.is_empty()).collect();
    let given: Vec<String> = given
        .iter()
        .map(|(key, it)| format!("{key}={it}"))
        .collect();
    format!(" {{{}}}", given.join(" "))
}

fn is_true(value: &Value) -> String {
    if *value == Value::Bool(true) {
        "yes"
    } else {
        ""
    }
    .to_owned()
}

fn is_there(value: &Value) -> String {
    if value.is_null() { "" } else { "yes" }.to_owned()
}

/// A path without the numbers of deployments and what is random at the ends of names.
fn numberless(place: &str) -> String {
    let parts = place.split('/').map(|part| match part.rsplit_once('-') {
        Some((rest, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{rest}-N")
        }
        _ => part.to_owned(),
    });
    let place = parts.collect::<Vec<_>>().join("/");
    match place.split_once("pods/") {
        Some((before, _)) => format!("{before}pods/POD"),
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, body: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_is_not_about_a_job_is_no_write_to_die_at() {
        let writes = |method: &str, path: &str| is_write(&request(method, path, ""));
        let deployment = "/apis/apps/v1/namespaces/n/deployments/d?force=true";
        assert!(writes("PATCH", deployment));
        assert!(writes("DELETE", "/api/v1/namespaces/n/configmaps/c"));
        assert!(!writes("GET", "/api/v1/namespaces/n/pods?watch=true"));
        let lease = "/apis/coordination.k8s.io/v1/namespaces/n/leases/l";
        assert!(!writes("PUT", lease));
        assert!(!writes(
            "POST",
            "/apis/events.k8s.io/v1/namespaces/n/events"
        ));
    }

    #[test]
    fn a_status_that_stands_where_it_stood_is_not_counted_again() {
        let write = |what: &str, before| Write {
            what: what.to_owned(),
            before,
        };
        let run = [
            write("PATCH streamjobs/orders/status {step=Preflight}", 0),
            write("PATCH streamjobs/orders/status {step=Preflight}", 1),
            write("DELETE pods/POD", 0),
            write("DELETE pods/POD", 1),
        ];
        let always = in_both(&run, &run);
        assert_eq!(always, [run[0].clone(), run[2].clone(), run[3].clone()]);
    }

    #[test]
    fn writes_are_told_apart_by_what_they_do_and_not_by_numbers() {
        let of = |path: &str, body: &str| identity(&request("PATCH", path, body));
        let deployment = |number: u64| format!("/apis/apps/v1/namespaces/n/deployments/d-{number}");
        assert_eq!(of(&deployment(7), ""), of(&deployment(8), ""));
        let status = "/apis/millstream.dev/v1alpha1/namespaces/n/streamjobs/orders/status";
        let stopping = of(status, r#"{"status": {"upgrade": {"step": "Stopping"}}}"#);
        assert_eq!(stopping, "PATCH streamjobs/orders/status {step=Stopping}");
        assert_ne!(
            stopping,
            of(status, r#"{"status": {"upgrade": {"step": "Deploying"}}}"#)
        );
    }
}
