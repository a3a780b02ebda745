//! Values at the edges of each type.

/// Types of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int32,
    Int64,
    /// Small integers: lengths and places.
    Count,
    Float,
    /// `decimal(12,2)`
    Price,
    /// `decimal(38,10)`
    Wide,
    Text,
    Time,
    Day,
}

const TEXTS: &[&str] = &[
    "", "a", "abc", "ABC", "a-b-c", " x ", "héllo", "12", "a%c", "banana", "A_a", "日本",
];
const TIMES: &[&str] = &[
    "0001-01-01T00:00:00Z",
    "1677-09-20T00:12:43.145224Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00Z",
    "2000-12-31T12:30:00Z",
    "2024-02-29T23:59:59.123456Z",
    "2024-10-27T01:30:00Z",
    "2262-04-12T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
];
const DAYS: &[&str] = &[
    "0001-01-01",
    "1677-09-21",
    "1969-12-31",
    "1970-01-01",
    "2000-12-31",
    "2024-02-29",
    "2024-12-30",
    "2262-04-12",
    "9999-12-31",
];
const FLOATS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "2.5",
    "-2.5",
    "1234567.891",
    "1e-16",
    "1e15",
    "-1e300",
    "NaN",
    "inf",
    "-inf",
];

/// Names of the arguments.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// Most records of a template.
const MOST: usize = 130;

/// The values of a record; none is NULL.
pub(crate) type Row = Vec<Option<&'static str>>;

impl Kind {
    pub(crate) const fn ours(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int32 => "int32",
            Self::Int64 | Self::Count => "int64",
            Self::Float => "float64",
            Self::Price => "decimal(12,2)",
            Self::Wide => "decimal(38,10)",
            Self::Text => "string",
            Self::Time => "timestamp",
            Self::Day => "date",
        }
    }

    const fn postgres(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int32 | Self::Count => "integer",
            Self::Int64 => "bigint",
            Self::Float => "double precision",
            Self::Price => "numeric(12,2)",
            Self::Wide => "numeric(38,10)",
            Self::Text => "text",
            Self::Time => "timestamptz",
            Self::Day => "date",
        }
    }

    fn values(self) -> Vec<Option<&'static str>> {
        let values = self.edges();
        values
            .iter()
            .map(|value| Some(*value))
            .chain([None])
            .collect()
    }

    const fn edges(self) -> &'static [&'static str] {
        match self {
            Self::Bool => &["true", "false"],
            Self::Int32 => &["0", "1", "-1", "7", "-8", "2147483647", "-2147483648"],
            Self::Int64 => &[
                "0",
                "1",
                "-1",
                "7",
                "-3",
                "1000000",
                "9223372036854775807",
                "-9223372036854775808",
            ],
            Self::Count => &["0", "1", "2", "-1", "-2", "5", "100"],
            Self::Float => FLOATS,
            Self::Price => &[
                "0",
                "1",
                "-1",
                "12.50",
                "-0.01",
                "2.5",
                "9999999999.99",
                "-9999999999.99",
            ],
            Self::Wide => &[
                "0",
                "1",
                "-1",
                "123456.789",
                "0.0000000001",
                "-2.5",
                "9999999999999999999999999999.9999999999",
            ],
            Self::Text => TEXTS,
            Self::Time => TIMES,
            Self::Day => DAYS,
        }
    }

    fn constant(self, value: Option<&str>) -> String {
        let text = match (self, value) {
            (_, None) => "NULL".to_owned(),
            (Self::Float, Some("inf")) => "'Infinity'".to_owned(),
            (Self::Float, Some("-inf")) => "'-Infinity'".to_owned(),
            (_, Some(value)) => format!("'{value}'"),
        };
        format!("CAST({text} AS {})", self.postgres())
    }
}

/// All combinations of values of these types, or as many as there may be, evenly chosen.
pub(crate) fn rows(types: &[Kind]) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![Vec::new()];
    for kind in types {
        let values = kind.values();
        rows = rows
            .iter()
            .flat_map(|row| {
                values.iter().map(|value| {
                    let mut row = row.clone();
                    row.push(*value);
                    row
                })
            })
            .collect();
    }
    let total = rows.len();
    if total <= MOST {
        return rows;
    }
    // A stride without a factor in common with the pools meets every value of each.
    (0..MOST)
        .map(|index| rows[index * 7_919 % total].clone())
        .collect()
}

/// A template with a record's values in the place of its arguments.
pub(crate) fn substituted(template: &str, types: &[Kind], row: &Row) -> String {
    let mut expression = String::new();
    let mut rest = template;
    while let Some(place) = rest.find('$') {
        expression.push_str(&rest[..place]);
        let name = rest[place + 1..].chars().next().unwrap();
        let index = NAMES
            .iter()
            .position(|known| known.starts_with(name))
            .unwrap();
        expression.push_str(&types[index].constant(row[index]));
        rest = &rest[place + 2..];
    }
    expression.push_str(rest);
    expression
}
