//! Options of the PostgreSQL sink, as far as they can be judged without a server.

use std::collections::BTreeSet;

use millstream_types::duration::KubeDuration;

use super::Report;
use super::checkpoint::between;
use super::kafka::{is_server, tls};
use crate::connector::{PostgresMode, PostgresSink};
use crate::path::{item, key};
use crate::wording::shown;

const SHORTEST: KubeDuration = KubeDuration::from_millis(100);
const LONGEST: KubeDuration = KubeDuration::from_secs(3_600);

pub(super) fn sink(options: &PostgresSink, path: &str, report: &mut Report<'_>) {
    servers(&options.servers, &key(path, "servers"), report);
    tls(options.tls.as_ref(), path, report);
    between(
        options.connect_timeout,
        SHORTEST,
        LONGEST,
        &key(path, "connectTimeout"),
        report,
    );
    let names = [
        ("database", &options.database),
        ("schema", &options.schema),
        ("table", &options.table),
        ("username", &options.username),
    ];
    for (name, value) in names {
        if value.chars().any(char::is_control) {
            let message = "contains a control character. Write the name as the server has it";
            report.add(&key(path, name), message);
        }
    }
    keys(options, path, report);
}

fn keys(options: &PostgresSink, path: &str, report: &mut Report<'_>) {
    let fields = key(path, "keyFields");
    let upserts = options.mode == PostgresMode::Upsert;
    if upserts && options.key_fields.is_empty() {
        let message = "is missing, and `mode: Upsert` replaces rows by their key. Name the columns of \
            the table's primary key";
        report.add(&fields, message);
    }
    if !upserts && !options.key_fields.is_empty() {
        let message = "goes with `mode: Upsert` only: in other modes every row is new. Remove it";
        report.add(&fields, message);
    }
    if !upserts && options.version_field.is_some() {
        let message = "goes with `mode: Upsert` only: in other modes every row is new. Remove it";
        report.add(&key(path, "versionField"), message);
    }
    let mut seen = BTreeSet::new();
    for (index, name) in options.key_fields.iter().enumerate() {
        let at = item(&fields, index);
        if !seen.insert(name) {
            let message = format!("`{}` is listed twice. Remove one", shown(name));
            report.add(&at, message);
        } else if options.version_field.as_ref() == Some(name) {
            let message = format!(
                "`{}` is `versionField` as well: rows of one key would all have one version. Choose \
                 another column",
                shown(name)
            );
            report.add(&at, message);
        }
    }
}

fn servers(text: &str, path: &str, report: &mut Report<'_>) {
    for server in text.split(',').map(str::trim) {
        if server.contains('@') {
            // Not shown: what stands before the `@` is a secret.
            let message = "contains a user name or password (`…@`). Leave it out: that is said by \
                `username` and `passwordFile`";
            report.add(path, message);
        } else if !is_server(server) {
            let message = format!(
                "`{}` is not a server's address. Write `host:port`, several separated by commas",
                shown(server)
            );
            report.add(path, message);
        }
    }
}
