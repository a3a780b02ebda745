//! Stream jobs on a real Kubernetes: API server, scheduler, kubelet, containerd.
//!
//! Each test plays in a namespace of its own with an operator of its own. Names begin with the
//! numbers of the table in `docs/testing.md`.
//!
//! [`contract`] is what people and tools see of the kinds, [`recorded`] resources that tools are
//! tested with, [`lifecycle`] a job that is suspended, restarted, rescaled, complete, [`deletion`]
//! one that is deleted, [`upgrade`] how a change is brought in and how a bad one is kept out,
//! [`fallback`] and [`rollback`] what happens where that fails, [`state`] what a deployment starts
//! from, [`faults`] what dies meanwhile,
//! [`nodes`] machines that go away, [`lost`] output that nobody can commit any more, [`crash`] the
//! operator that dies at every write, [`savepoints`] the second kind, [`tenancy`] several
//! operators, namespaces and managers, [`versions`] one version of the operator after another,
//! [`chart`] the operator as the chart installs it, [`plugin`] `kubectl streamjob` on a job that
//! lives, [`keyed`] a job with state by key, [`figures`] what is measured.

mod chart;
mod contract;
mod crash;
mod deletion;
mod fallback;
mod faults;
mod figures;
mod keyed;
mod lifecycle;
mod lost;
mod nodes;
mod plugin;
mod recorded;
mod rollback;
mod savepoints;
mod state;
mod tenancy;
mod upgrade;
mod versions;

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by tests that share the machine with others.
fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Held by a test that measures, or disturbs what all use.
fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
