//! TLS and passwords.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use millstream_tests::postgres::PASSWORD;
use millstream_tests::{Postgres, PostgresOptions, Scratch};
use millstream_types::{ErrorCode, ErrorKind};
use serde_json::{Value, json};

use crate::fixture::{Sink, batch, options};

fn sink(address: &str, more: &Value) -> Sink {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = batch(vec![("id", ids)]);
    Sink::new(options(address, "t", "Buffered", more), &rows.schema())
}

#[test]
fn a_sink_logs_in_with_a_password_over_tls_and_nothing_else() {
    let server = Postgres::start_with(&PostgresOptions {
        is_secure: true,
        ..PostgresOptions::default()
    });
    server.query("CREATE TABLE t (id bigint)");
    let scratch = Scratch::new("postgres-security");
    let write = |name: &str, content: &str| {
        std::fs::write(scratch.join(name), content).unwrap();
        scratch.join(name).display().to_string()
    };
    let right = write("right", &format!("{PASSWORD}\n"));
    let wrong = write("wrong", "another");
    let authority = server.pem_file("ca.pem").display().to_string();
    let tls = json!({"caFile": authority});
    let address = server.address();
    sink(&address, &json!({"passwordFile": right, "tls": tls}))
        .preflight()
        .unwrap();
    let stranger = write("stranger.pem", &stranger());
    let localhost = address.replace("127.0.0.1", "localhost");
    sink(&localhost, &json!({"passwordFile": right, "tls": tls}))
        .preflight()
        .unwrap();
    for (address, more, said) in [
        (
            &address,
            json!({"passwordFile": wrong, "tls": tls}),
            "password authentication failed",
        ),
        (&address, json!({"tls": tls}), "password missing"),
        (
            &address,
            json!({"passwordFile": right}),
            "no pg_hba.conf entry",
        ),
        (
            &address,
            json!({"passwordFile": right, "tls": {"caFile": stranger}}),
            "certificate",
        ),
        (
            &address,
            json!({"passwordFile": "/nowhere/password", "tls": tls}),
            "/nowhere/password",
        ),
    ] {
        let failure = sink(address, &more).refusal();
        assert_eq!(failure.code, ErrorCode::PostgresAccess, "{failure}");
        assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
        assert!(failure.message.contains(said), "{failure}");
        assert!(!failure.message.contains(PASSWORD), "{failure}");
    }
}

#[test]
fn a_client_shows_its_certificate() {
    let server = Postgres::start_with(&PostgresOptions {
        is_secure: true,
        ..PostgresOptions::default()
    });
    server.query("CREATE TABLE t (id bigint); CREATE ROLE tests LOGIN SUPERUSER");
    let file = |name: &str| server.pem_file(name).display().to_string();
    let mut tls = json!({"caFile": file("ca.pem")});
    let user = |tls: &Value| json!({"username": "tests", "tls": tls});
    let failure = sink(&server.address(), &user(&tls)).refusal();
    assert_eq!(failure.code, ErrorCode::PostgresAccess, "{failure}");
    tls["certificateFile"] = json!(file("signed.crt"));
    tls["keyFile"] = json!(file("signed.key"));
    sink(&server.address(), &user(&tls)).preflight().unwrap();
}

/// The certificate of an authority that has signed nothing.
fn stranger() -> String {
    let scratch = Scratch::new("stranger");
    let authority = millstream_tests::certificates::Authority::make(scratch.path());
    std::fs::read_to_string(authority.file()).unwrap()
}
