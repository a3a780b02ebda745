//! Leader election by a `Lease`: of all operators that use one lease, one acts.
//!
//! A lease is a hint that saves work, not a fence: what protects a job's state is its chain. Still
//! no two operators act at once as long as their clocks run at about the same speed, because a
//! leader stops acting [`Terms::renew_deadline`] after its last renewal began, and others wait
//! [`Terms::duration`] from when they saw it. Times of different machines are never compared.
//!
//! [`candidate`] decides, without I/O; [`Election`] reads and writes the lease.

pub mod candidate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use millstream_types::Clock;

use candidate::{Candidate, Record, Step, Terms};

/// Takes part in the election for one lease.
pub struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    clock: Arc<dyn Clock>,
    /// The lease as it was read or written last.
    lease: Option<Lease>,
}

/// Which lease, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Namespace of the lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our name, different from that of every other operator.
    pub identity: String,
    /// How long things may take.
    pub terms: Terms,
}

impl Election {
    /// Takes part, without having read the lease yet.
    pub fn new(client: Client, options: LeaseOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            api: Api::namespaced(client, &options.namespace),
            name: options.name,
            candidate: Candidate::new(options.identity, options.terms),
            clock,
            lease: None,
        }
    }

    /// Tries once to become or stay the leader, and says whether we act now. Errors of the API are
    /// told to `on_error` and otherwise the same as not having tried: what matters is how old the
    /// last renewal is.
    pub async fn attempt(&mut self, on_error: impl FnOnce(&dyn std::fmt::Display)) -> bool {
        let started = self.clock.monotonic();
        let left = self.candidate.patience(started);
        // An answer that comes when we do not act any more is of no use.
        match tokio::time::timeout(left, self.exchange(started)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                // Whatever is there now, it is not what we know.
                self.lease = None;
                if !is_conflict(&error) {
                    on_error(&error);
                }
            }
            Err(_) => {
                self.lease = None;
                on_error(&"no answer in time");
            }
        }
        self.candidate.acts(self.clock.monotonic())
    }

    /// Time until the next attempt.
    pub fn pause(&self) -> Duration {
        self.candidate.pause()
    }

    async fn exchange(&mut self, started: Duration) -> Result<(), kube::Error> {
        // A leader knows what it wrote: it renews without reading. A write that meets another
        // version is refused by the API server.
        if self.lease.is_none() || !self.candidate.acts(started) {
            self.lease = self.api.get_opt(&self.name).await?;
            let record = self.lease.as_ref().map(record);
            self.candidate.observe(record, self.clock.monotonic());
        }
        let post = PostParams::default();
        let written = match self.candidate.step(self.clock.monotonic()) {
            Step::Wait => return Ok(()),
            Step::Create => self.api.create(&post, &self.next(0, true)).await?,
            Step::Take { transitions } => {
                self.api
                    .replace(&self.name, &post, &self.next(transitions, true))
                    .await?
            }
            Step::Renew { transitions } => {
                self.api
                    .replace(&self.name, &post, &self.next(transitions, false))
                    .await?
            }
        };
        self.candidate.wrote(record(&written), started);
        self.lease = Some(written);
        Ok(())
    }

    /// The lease as we write it: over what we know, so that the API server refuses it if somebody
    /// else was faster.
    fn next(&self, transitions: i32, acquired: bool) -> Lease {
        let now = self.now();
        let known = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let since = known
            .spec
            .as_ref()
            .and_then(|spec| spec.acquire_time.clone());
        let seconds = self.candidate.terms().duration.as_secs();
        Lease {
            metadata: known.metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.candidate.identity().to_owned()),
                lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
                lease_transitions: Some(transitions),
                acquire_time: if acquired { now.clone() } else { since },
                renew_time: now,
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease up, so that another operator can take it at once. Best effort: otherwise it
    /// runs out.
    ///
    /// # Errors
    /// The API refused or did not answer.
    pub async fn release(self) -> Result<(), kube::Error> {
        // Read anew: the answer to the last renewal may never have been heard.
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if record(&lease).holder.as_deref() != Some(self.candidate.identity()) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = self.now();
        }
        self.api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
            .map(drop)
    }

    fn now(&self) -> Option<MicroTime> {
        let millis = i64::try_from(self.clock.now().0).ok()?;
        Timestamp::from_millisecond(millis).ok().map(MicroTime)
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        transitions: spec.lease_transitions.unwrap_or(0),
        duration: Duration::from_secs(seconds.unwrap_or(0)),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
