//! The table itself, and the page that lists it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema};
use datafusion_physical_expr::expressions::Literal;
use millstream_spec::ValidTransform;
use millstream_spec::valid::Input;

use super::*;
use crate::changes::Stream;
use crate::sql::{bind_transform, derived};

const BEGIN: &str = "<!-- functions: begin -->\n";
const END: &str = "<!-- functions: end -->";

/// What a call without columns gives, as SQL writes it.
fn value(functions: &Functions, call: &str) -> String {
    let transform = ValidTransform {
        name: "t".to_owned(),
        inputs: vec![Input::Main("input".to_owned())],
        partition_by: Vec::new(),
        parallelism: None,
        state_ttl: None,
        sql: format!("SELECT {call} AS x FROM input"),
    };
    let input = Stream::of(Arc::new(Schema::empty()), None);
    let part = derived::parts(&transform).remove(0);
    let bound = match bind_transform(functions, &part, &[input]) {
        Ok(bound) => bound,
        Err(faults) => return format!("is refused: {}", faults[0].message),
    };
    let literal = bound.selects[0].columns[0].expr.downcast_ref::<Literal>();
    let Some(literal) = literal else {
        // A choice of which a branch cannot be computed is made record by record.
        let schema = Schema::empty();
        let batch = arrow_array::RecordBatch::try_new_with_options(
            Arc::new(schema),
            vec![],
            &arrow_array::RecordBatchOptions::new().with_row_count(Some(1)),
        );
        let value = bound.selects[0].columns[0]
            .expr
            .evaluate(&batch.unwrap())
            .unwrap();
        return format!("→ `{}`", shown(&value.into_array(1).unwrap()));
    };
    format!("→ `{}`", shown(&literal.value().to_array().unwrap()))
}

fn shown(array: &arrow_array::ArrayRef) -> String {
    let options = FormatOptions::new().with_null("NULL");
    let text = ArrayFormatter::try_new(array.as_ref(), &options)
        .unwrap()
        .value(0)
        .to_string();
    match array.data_type() {
        _ if array.is_null(0) => text,
        DataType::Utf8 => format!("'{text}'"),
        DataType::Binary => format!("bytes {text}"),
        _ => text,
    }
}

/// The tables of the page.
fn listed() -> String {
    let functions = Functions::new();
    let mut page = String::new();
    for (group, members) in groups() {
        write!(
            page,
            "### {group}\n| function | at the edges |\n|---|---|\n"
        )
        .unwrap();
        for function in members {
            let (call, about) = function
                .signature
                .split_once(": ")
                .unwrap_or((function.signature, ""));
            let calls: Vec<String> = call.split(", ").fold(Vec::new(), |mut calls, part| {
                // A comma within parentheses does not end a call.
                match calls.last_mut() {
                    Some(last) if last.matches('(').count() > last.matches(')').count() => {
                        last.push_str(", ");
                        last.push_str(part);
                    }
                    _ => calls.push(part.to_owned()),
                }
                calls
            });
            let calls: Vec<String> = calls.iter().map(|call| format!("`{call}`")).collect();
            let also = function.names.get(1..).unwrap_or_default();
            let also: Vec<String> = also.iter().map(|name| format!("`{name}`")).collect();
            let also = if also.is_empty() {
                String::new()
            } else {
                format!(" (also {})", also.join(", "))
            };
            let about = if about.is_empty() {
                String::new()
            } else {
                format!(": {about}")
            };
            let edges: Vec<String> = function
                .edges
                .iter()
                .map(|call| format!("`{call}` {}", value(&functions, call)))
                .collect();
            let row = format!("{}{also}{about} | {}", calls.join(", "), edges.join("<br>"));
            writeln!(page, "| {} |", escaped(&row)).unwrap();
        }
        page.push('\n');
    }
    page
}

/// A row whose only bars are those of the table.
fn escaped(row: &str) -> String {
    row.replace(" | ", "\u{0}")
        .replace('|', "\\|")
        .replace('\u{0}', " | ")
}

#[test]
fn the_page_lists_every_function_with_its_edges() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (list, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", listed())).unwrap();
    } else {
        assert_eq!(
            list,
            listed(),
            "UPDATE_EXPECT=1 writes the tables in docs/sql.md"
        );
    }
}

#[test]
fn no_function_varies_from_call_to_call() {
    let functions = Functions::new();
    for name in VARYING {
        assert!(
            functions.varies(name) && functions.get(name).is_none(),
            "{name}"
        );
    }
}

#[test]
fn no_name_is_taken_twice() {
    let all: usize = groups()
        .iter()
        .flat_map(|(_, functions)| *functions)
        .map(|f| f.names.len())
        .sum();
    assert_eq!(Functions::new().names().count(), all);
}
