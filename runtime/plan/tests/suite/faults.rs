//! Faults, where they point, and what they advise.

use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::expected::expect;
use crate::jobs::{job, one, refused};

const UNPARSED: [&str; 8] = [
    "-- nothing",
    "SELECT",
    "SELECT * FRM orders",
    "SELECT 'abc FROM orders",
    "SELECT (quantity FROM orders",
    "SELECT quantity,, price FROM orders",
    "SELECT CASE WHEN paid THEN 1 FROM orders",
    "SELECT quantity\nFROM orders\nWHERE quantity >",
];

const REFUSED: [&str; 21] = [
    "DROP TABLE orders",
    "INSERT INTO orders SELECT 1",
    "SELECT quantity FROM orders; SELECT 1",
    "VALUES (1)",
    "(SELECT quantity FROM orders)",
    "WITH x AS (SELECT 1) SELECT * FROM orders",
    "SELECT quantity FROM orders UNION SELECT small FROM orders",
    "SELECT a.order_id FROM orders a JOIN b ON a.y = b.y",
    "SELECT * FROM orders, payments",
    "SELECT * FROM (SELECT * FROM orders) x UNION ALL SELECT * FROM orders",
    "SELECT * FROM (SELECT * FROM orders) x JOIN orders ON true",
    "SELECT * FROM generate_series(1, 2)",
    "SELECT 1 AS x",
    "SELECT quantity FROM orders ORDER BY 1",
    "SELECT quantity FROM orders LIMIT 10",
    "SELECT row_number() OVER (ORDER BY ts) AS n FROM orders",
    "SELECT sum(quantity) OVER () AS n FROM orders",
    "SELECT (SELECT 1) AS x FROM orders",
    "SELECT quantity FROM orders WHERE EXISTS (SELECT 1)",
    "SELECT quantity FROM orders WHERE quantity IN (SELECT 1)",
    "SELECT quantity FROM orders AS o (a, b)",
];

const VARYING: [&str; 3] = [
    "SELECT now() AS x, uuid() AS y, random() AS z FROM orders",
    "SELECT CURRENT_TIMESTAMP AS x, current_date AS y FROM orders",
    "SELECT quantity FROM orders WHERE ts < NOW() - INTERVAL '1 hour'",
];

const UNBOUND: [&str; 30] = [
    "SELECT *, quantity * prise AS total FROM orders",
    "SELECT order_id,\n       quantity * prise AS total,\n       upper(custmer_id) AS customer\nFROM orders\nWHERE zebra > 1",
    "SELECT * FROM order",
    "SELECT * FROM payments",
    "SELECT Quantity FROM orders",
    "SELECT o.price FROM orders",
    "SELECT orders.price FROM orders AS o",
    "SELECT other.* FROM orders",
    "SELECT uper(order_id) AS u, frobnicate(order_id) AS f FROM orders",
    "SELECT abs(order_id) AS x FROM orders",
    "SELECT length() AS x FROM orders",
    "SELECT 1 + (2 * abs(day)) AS x FROM orders",
    "SELECT quantity + order_id AS x FROM orders",
    "SELECT quantity = paid AS x FROM orders",
    "SELECT quantity FROM orders WHERE price",
    "SELECT quantity FROM orders WHERE order_id > 5",
    "SELECT CASE WHEN quantity THEN 1 END AS x FROM orders",
    "SELECT quantity + 1, price FROM orders",
    "SELECT *, price * 2 AS price FROM orders",
    "SELECT NULL AS x FROM orders",
    "SELECT ts - ts AS age FROM orders",
    "SELECT 1 / 0 AS x FROM orders",
    "SELECT 9223372036854775807 + 1 AS x FROM orders",
    "SELECT CAST('x' AS int64) AS x FROM orders",
    "SELECT CAST(order_id AS wrong) AS x, CAST(order_id AS decimal) AS y FROM orders",
    "SELECT * EXCLUDE (prise) FROM orders",
    "SELECT x FROM (SELECT quantity,\n  prise AS x\n FROM orders) AS t",
    "SELECT x FROM (\n  SELECT quantity AS y FROM orders\n) AS t",
    "SELECT t.y + order_id AS z FROM (SELECT quantity AS y FROM orders) AS t",
    "SELECT y FROM (SELECT quantity AS y FROM order) AS t",
];

const GROUPED: [&str; 54] = [
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id HAVING n > 1 AND count(*) < 9",
    "SELECT quantity * 2 AS twice FROM orders WHERE twice > 3",
    "SELECT count(*) AS n FROM orders GROUP BY ()",
    "SELECT quantity FROM orders HAVING quantity > 1",
    "SELECT customer_id, count(*) AS n FROM orders",
    "SELECT customer_id, order_id, count(*) AS n FROM orders GROUP BY customer_id",
    "SELECT * FROM orders GROUP BY customer_id",
    "SELECT upper(customer_id) AS u, count(*) AS n FROM orders GROUP BY lower(customer_id)",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY customer",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY 3",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY 'x'",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY n",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY 2",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY count(*)",
    "SELECT customer_id, count(*) AS n FROM orders GROUP BY NULL::string || NULL, ts - ts",
    "SELECT customer_id FROM orders WHERE count(*) > 1 GROUP BY customer_id",
    "SELECT sum(count(*)) AS n FROM orders",
    "SELECT count(*) FILTER (WHERE max(quantity) > 1) AS n FROM orders",
    "SELECT sum(customer_id) AS n FROM orders",
    "SELECT avg(paid) AS n FROM orders",
    "SELECT min(paid) AS n FROM orders",
    "SELECT bool_and(quantity) AS n FROM orders",
    "SELECT max(ts - ts) AS n FROM orders",
    "SELECT sum(NULL) AS n FROM orders",
    "SELECT sum(*) AS n FROM orders",
    "SELECT count() AS n FROM orders",
    "SELECT sum(quantity, price) AS n FROM orders",
    "SELECT count(DISTINCT *) AS n FROM orders",
    "SELECT count(DISTINCT customer_id, order_id) AS n FROM orders",
    "SELECT first_value(DISTINCT quantity) AS n FROM orders",
    "SELECT first_value(quantity ORDER BY ts) AS n FROM orders",
    "SELECT last_value(quantity) IGNORE NULLS AS n FROM orders",
    "SELECT sum(quantity) FILTER (WHERE quantity) AS n FROM orders",
    "SELECT abs(quantity) FILTER (WHERE paid) AS n FROM orders",
    "SELECT median(quantity) AS n FROM orders",
    "SELECT array_agg(quantity) AS n FROM orders",
    "SELECT row_number() AS n FROM orders",
    "SELECT summ(quantity) AS n FROM orders",
    "SELECT sum(quantty) AS n FROM orders",
    "SELECT customer_id, sum(quantity) + price AS n FROM orders GROUP BY customer_id",
    "SELECT customer_id FROM orders GROUP BY customer_id HAVING max(quantity)",
    "SELECT customer_id FROM orders GROUP BY customer_id HAVING quantity > 1",
    "SELECT DISTINCT customer_id, count(*) AS n FROM orders GROUP BY customer_id",
    "SELECT DISTINCT ON (customer_id) customer_id, count(*) AS n FROM orders",
    "SELECT DISTINCT ON (customer_id) customer_id FROM orders GROUP BY customer_id",
    "SELECT DISTINCT ON () customer_id FROM orders",
    "SELECT DISTINCT ON (count(*)) customer_id FROM orders",
    "SELECT DISTINCT ON (customer) customer_id FROM orders",
    "SELECT DISTINCT ON (3) customer_id FROM orders",
    "SELECT DISTINCT ON (customer_id) quantity > 'x' AS q FROM orders",
    "SELECT customer_id FROM orders GROUP BY ROLLUP (customer_id)",
    "SELECT customer_id FROM orders GROUP BY ALL",
    "SELECT count(*) AS n FROM orders UNION ALL SELECT quantity FROM orders",
    "SELECT quantity AS \"$change\" FROM orders",
];

fn listed(title: &str, cases: &[&str]) -> String {
    let cases = cases.iter().map(|sql| format!("\n{}\n", refused(sql)));
    format!("=== {title}\n{}\n", cases.collect::<String>())
}

#[test]
fn every_fault_points_into_the_text() {
    let text = [
        listed("does not parse", &UNPARSED),
        listed("is not a selection from one input", &REFUSED),
        listed("gives another result each time", &VARYING),
        listed("does not bind", &UNBOUND),
        listed("does not group", &GROUPED),
    ];
    expect("faults.txt", &text.concat());
}

#[test]
fn grammar_and_meaning_have_their_own_codes() {
    let code = |sql: &str| Failure::from(one(sql).plan().unwrap_err()).code;
    for sql in UNPARSED {
        assert_eq!(code(sql), ErrorCode::SqlDoesNotParse, "{sql}");
    }
    for sql in REFUSED
        .into_iter()
        .chain(VARYING)
        .chain(UNBOUND)
        .chain(GROUPED)
    {
        assert_eq!(code(sql), ErrorCode::SqlDoesNotBind, "{sql}");
    }
}

#[test]
fn all_faulty_transforms_are_reported_and_those_behind_them_are_not() {
    let error = job()
        .source("orders", "a int64")
        .transform("first", "orders", "SELECT b FROM orders")
        .transform("second", "orders", "SELECT a FROM orders WHERE a")
        .transform("behind", "first", "SELECT nothing FROM first")
        .sink("one", "second")
        .kafka_sink("two", "behind", "key: nothing", "")
        .plan()
        .unwrap_err();
    let subjects: Vec<&str> = error.faults().iter().map(|f| f.subject.as_str()).collect();
    assert_eq!(subjects, ["transform `first`", "transform `second`"]);
    let failure = Failure::from(error);
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    assert!(
        failure.message.contains("there is no column `b`"),
        "{failure}"
    );
    assert!(
        failure.message.contains("WHERE needs a condition"),
        "{failure}"
    );
}

#[test]
fn a_name_with_a_hyphen_is_quoted() {
    let read = |from: &str| {
        let sql = format!("SELECT a FROM {from}");
        let job = job()
            .source("order-lines", "a string")
            .transform("t", "order-lines", &sql);
        job.sink("out", "t")
            .plan()
            .map_err(|error| error.to_string())
    };
    assert!(read("\"order-lines\"").is_ok());
    let message = read("order-lines").unwrap_err();
    assert!(
        message.ends_with("= the input's name needs double quotes: FROM \"order-lines\""),
        "{message}"
    );
}

#[test]
fn dead_letters_are_read_by_their_name_in_either_spelling() {
    let read = |from: &str| {
        let sql = format!("SELECT reason, offset, deadLetters.partition FROM {from}");
        job()
            .source_with("orders", "a string", ", onError: DeadLetter")
            .transform("t", "orders.deadLetters", &sql)
            .sink("out", "orders")
            .sink("bad", "t")
            .plan()
            .map_err(|error| error.to_string())
    };
    assert!(read("orders.deadLetters").is_ok());
    let message = read("\"orders.deadLetters\"").unwrap_err();
    assert!(
        message.contains("there is no table `deadLetters` here"),
        "{message}"
    );
    let message = read("deadLetters").unwrap_err();
    assert!(
        message.contains("its input is `orders.deadLetters`"),
        "{message}"
    );
}

#[test]
fn a_kafka_key_is_a_column_of_the_input_with_a_text() {
    let with_key = |key: &str| {
        let job = job().source("orders", "id string, customer_id int64, price float64");
        job.kafka_sink("out", "orders", &format!("key: {key}"), "")
            .plan()
            .map_err(|error| error.to_string())
    };
    assert!(with_key("id").is_ok());
    assert!(with_key("customer_id").is_ok());
    assert_eq!(
        with_key("price").unwrap_err(),
        "spec.dataflow.sinks[0].kafka.key: a key is of type string, bytes, int32 or int64, but the \
         column `price` is of type float64\n  = convert it in a transform: CAST(price AS string)"
    );
    assert_eq!(
        with_key("custmer_id").unwrap_err(),
        "spec.dataflow.sinks[0].kafka.key: the sink's input has no column `custmer_id`\n  \
         = did you mean `customer_id`?"
    );
}

#[test]
fn what_a_sink_writes_beside_the_value_is_checked_with_its_input() {
    let refusal = |kafka: &str, more: &str| {
        let job = job().source("orders", "id string, num int64, at timestamp");
        job.kafka_sink("out", "orders", kafka, more).refusal()
    };
    for (kafka, more, says) in [
        (
            "keyFields: [id, x]",
            "",
            "sinks[0].kafka.keyFields[1]: the sink's input has no column `x`",
        ),
        (
            "",
            "metadata: [{name: num, to: headers}]",
            "sinks[0].metadata[0].name: headers is of type string, but the column `num` is of type int64",
        ),
        (
            "",
            "metadata: [{name: id, to: timestamp}]",
            "the timestamp is of type timestamp, but the column `id` is of type string",
        ),
        (
            "",
            "metadata: [{name: ts, to: timestamp}]",
            "the sink's input has no column `ts`",
        ),
        (
            "keyFields: [id, num, at], valueFieldsInclude: ExceptKey",
            "",
            "sinks[0].format: no column is left for the record's value",
        ),
        (
            "",
            "format: {json: {jsonColumns: [id, num]}}",
            "sinks[0].format.json.jsonColumns[1]: JSON as text is of type string, but the column `num` is of type int64",
        ),
        (
            "",
            "format: {json: {jsonColumns: [ids]}}",
            "sinks[0].format.json.jsonColumns[0]: the sink's input has no column `ids`\n  = did you mean `id`?",
        ),
        (
            "",
            "metadata: [{name: id, to: headers}], format: {json: {jsonColumns: [id]}}",
            "sinks[0].format.json.jsonColumns[0]: the column `id` is written as it is, beside the record's value",
        ),
        (
            "",
            "format: {raw: {}}",
            "sinks[0].format: format raw writes exactly one column, and the sink is given 3: id, num, at",
        ),
        (
            "key: id, valueFieldsInclude: ExceptKey",
            "format: {raw: {}}, metadata: [{name: at, to: timestamp}]",
            "format raw writes a column of type string or bytes, but `num` is of type int64",
        ),
    ] {
        let message = refusal(kafka, more);
        assert!(message.contains(says), "{kafka} {more}: {message}");
    }
}
