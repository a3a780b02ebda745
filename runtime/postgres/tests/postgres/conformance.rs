//! The three sinks against the kit for those who write one.

use std::sync::Arc;

use millstream_connect::SinkConnector;
use millstream_sinks::conformance::{Report, Subject, idempotent, transactional};
use millstream_tests::Postgres;
use serde_json::{Value, json};

use crate::fixture::{connector, options, prepared};

/// A table of ids and texts.
struct Table {
    address: String,
    mode: &'static str,
    more: Value,
}

impl Subject for Table {
    fn connector(&self) -> Arc<dyn SinkConnector> {
        let options = options(&self.address, "kit", self.mode, &self.more);
        connector(options, &self.batch(&[]).schema())
    }

    fn visible(&self) -> Result<Vec<i64>, String> {
        let ids = Postgres::query_at(&self.address, "SELECT id FROM kit")?;
        let ids = ids.lines().map(|id| id.parse().map_err(|_| id.to_owned()));
        ids.collect()
    }
}

#[track_caller]
fn check(report: &Report) {
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

fn exactly_once(mode: &'static str, most_prepared: u32) -> Report {
    // Of the parent only: a child is given the address.
    let mut server = None;
    transactional(
        || {
            let started = Postgres::start_with(&prepared(most_prepared));
            started.query("CREATE TABLE kit (id bigint NOT NULL, text text)");
            let address = started.address();
            server = Some(started);
            address
        },
        |address| {
            Box::new(Table {
                address: address.to_owned(),
                mode,
                more: json!({}),
            })
        },
    )
}

#[test]
fn the_two_phase_commit_sink_conforms() {
    check(&exactly_once("TwoPhaseCommit", 16));
}

#[test]
fn the_buffered_sink_conforms_without_prepared_transactions() {
    check(&exactly_once("Buffered", 0));
}

#[test]
fn the_upsert_sink_conforms() {
    let mut server = None;
    let report = idempotent(
        || {
            let started = Postgres::start();
            started.query("CREATE TABLE kit (id bigint PRIMARY KEY, text text)");
            let address = started.address();
            server = Some(started);
            address
        },
        |address| {
            Box::new(Table {
                address: address.to_owned(),
                mode: "Upsert",
                more: json!({"keyFields": ["id"]}),
            })
        },
    );
    check(&report);
}
