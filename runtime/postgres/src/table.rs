//! The table that a sink writes to, compared with the columns that it is given.

use std::collections::BTreeMap;

use arrow_schema::{DataType, SchemaRef};
use millstream_connect::Result;
use millstream_spec::connector::PostgresSink;
use millstream_types::schema::in_column_types;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use tokio_postgres::{Client, Row};

use crate::column::{ServerType, kind, proposed};
use crate::failure::Fails;
use crate::rows::Written;

/// The columns of a table.
const COLUMNS: &str = "
    SELECT a.attname::text, coalesce(b.typname, t.typname)::text, coalesce(b.typtype, t.typtype) = 'e',
        CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
        format_type(a.atttypid, a.atttypmod), a.attnotnull OR t.typnotnull,
        a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL,
        a.attgenerated <> '' OR a.attidentity = 'a'
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
/// The columns of each unique index over whole columns of all rows.
const KEYS: &str = "
    SELECT array_agg(a.attname::text ORDER BY a.attname)
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = i.indnatts
    GROUP BY i.indexrelid";

/// A table, and what is to be written to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) sink: &'a str,
    pub(crate) options: &'a PostgresSink,
    pub(crate) columns: &'a SchemaRef,
}

/// A column of a table.
#[derive(Debug)]
struct Column {
    name: String,
    server_type: ServerType,
    not_null: bool,
    has_default: bool,
    /// The server makes its values, and takes none.
    is_generated: bool,
}

impl Column {
    fn read(row: &Row) -> std::result::Result<Self, tokio_postgres::Error> {
        Ok(Self {
            name: row.try_get(0)?,
            server_type: ServerType {
                name: row.try_get(1)?,
                is_enum: row.try_get(2)?,
                modifier: row.try_get(3)?,
                shown: row.try_get(4)?,
            },
            not_null: row.try_get(5)?,
            has_default: row.try_get(6)?,
            is_generated: row.try_get(7)?,
        })
    }
}

/// A name as SQL takes it whatever its characters are.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names in quotes, separated by commas.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

impl Target<'_> {
    /// The table in SQL.
    pub(crate) fn table(&self) -> String {
        self.beside(&self.options.table)
    }

    /// Another table of the same schema.
    pub(crate) fn beside(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.options.schema), quoted(table))
    }

    /// The columns that are written, in SQL.
    pub(crate) fn columns(&self) -> String {
        let fields = self.columns.fields().iter();
        quoted_list(fields.map(|field| field.name().as_str()))
    }

    /// What copies rows into a table with these columns.
    pub(crate) fn copy_into(&self, table: &str) -> String {
        let columns = self.columns();
        format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")
    }

    /// How each column is written.
    ///
    /// # Errors
    /// The table is not there, or does not fit; the message has all differences.
    pub(crate) async fn compare(&self, client: &Client, fails: &Fails) -> Result<Vec<Written>> {
        let table = self.table();
        let rows = client.query(COLUMNS, &[&table]).await;
        let rows = rows.map_err(|error| fails.of("reads the table's columns", &error))?;
        let found = rows.iter().map(Column::read);
        let found: std::result::Result<Vec<Column>, _> = found.collect();
        let found = found.map_err(|error| fails.of("reads the table's columns", &error))?;
        if found.is_empty() {
            return Err(self.missing(fails));
        }
        let by_name: BTreeMap<&str, &Column> = found
            .iter()
            .map(|column| (column.name.as_str(), column))
            .collect();
        let mut faults = Vec::new();
        let mut written = Vec::new();
        for (index, field) in self.columns.fields().iter().enumerate() {
            let ours = field.data_type();
            match fit(field.name(), ours, by_name.get(field.name().as_str())) {
                Ok(kind) => written.push(Written { index, kind }),
                Err(fault) => faults.push(fault),
            }
        }
        let ours = |name: &str| self.columns.field_with_name(name).is_ok();
        for column in found.iter().filter(|column| !ours(&column.name)) {
            if column.not_null && !column.has_default && !column.is_generated {
                let (name, shown) = (&column.name, &column.server_type.shown);
                faults.push(format!(
                    "{name}: the table's column ({shown}) is NOT NULL and has no default, and the sink \
                     has no such column"
                ));
            }
        }
        if faults.is_empty() {
            return Ok(written);
        }
        Err(self.differs(fails, &faults))
    }

    fn missing(&self, fails: &Fails) -> Failure {
        let columns = self.columns.fields().iter();
        let columns = columns
            .map(|field| format!("{} {}", quoted(field.name()), proposed(field.data_type())));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let key = quoted_list(self.options.key_fields.iter().map(String::as_str));
        let key = if key.is_empty() {
            key
        } else {
            format!(", PRIMARY KEY ({key})")
        };
        let (table, database) = (self.table(), &self.options.database);
        let message = format!(
            "the database `{database}` has no table {table}, or the user may not see its schema. Make it, \
             for example: CREATE TABLE {table} ({columns}{key})"
        );
        fails.with(ErrorCode::PostgresTable, ErrorKind::InvalidJob, &message)
    }

    fn differs(&self, fails: &Fails, faults: &[String]) -> Failure {
        let (table, sink) = (self.table(), self.sink);
        let mut message = format!("the table {table} and the input of `{sink}` do not fit:");
        for fault in faults {
            message.push_str("\n  ");
            message.push_str(fault);
        }
        fails.with(ErrorCode::PostgresTable, ErrorKind::InvalidJob, &message)
    }

    /// Checks that the table lets only one row have a key.
    ///
    /// # Errors
    /// It has no unique index over exactly the key's columns.
    pub(crate) async fn check_key(&self, client: &Client, fails: &Fails) -> Result<()> {
        let table = self.table();
        let rows = client.query(KEYS, &[&table]).await;
        let rows = rows.map_err(|error| fails.of("reads the table's indexes", &error))?;
        let mut wanted = self.options.key_fields.clone();
        wanted.sort();
        let read = |row: &Row| row.try_get::<_, Vec<String>>(0).ok();
        let is_it = |mut columns: Vec<String>| {
            columns.sort();
            columns == wanted
        };
        if rows.iter().filter_map(read).any(is_it) {
            return Ok(());
        }
        let key = quoted_list(self.options.key_fields.iter().map(String::as_str));
        let message = format!(
            "the table {table} has no primary key or unique index over exactly the columns of `keyFields`, \
             so that a row cannot replace the one of its key: ALTER TABLE {table} ADD PRIMARY KEY ({key})"
        );
        Err(fails.with(ErrorCode::PostgresTable, ErrorKind::InvalidJob, &message))
    }
}

/// How a column is written, or why it cannot be.
fn fit(
    name: &str,
    ours: &DataType,
    theirs: Option<&&Column>,
) -> std::result::Result<crate::column::Kind, String> {
    let shown = in_column_types(&ours.to_string());
    let Some(column) = theirs else {
        let proposed = proposed(ours);
        return Err(format!(
            "{name}: the table has no such column for the sink's {shown}; add one ({proposed}), or leave \
             it out in a transform"
        ));
    };
    let their_type = &column.server_type.shown;
    if column.is_generated {
        return Err(format!(
            "{name}: the server itself makes the values of the table's column; leave it out in a transform"
        ));
    }
    kind(ours, &column.server_type).ok_or_else(|| {
        let proposed = proposed(ours);
        format!(
            "{name}: the sink's {shown} does not go into the table's {their_type}; make it {proposed}, or \
             CAST the column in a transform"
        )
    })
}
