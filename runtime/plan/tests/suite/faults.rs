//! Faults and where they point.

use crate::jobs::{job, refused};

#[test]
fn x() {
    for sql in [
        "SELECT *, quantity * prise AS total FROM orders",
        "SELECT * FROM order",
        "SELECT * FRM orders",
        "SELECT abs(order_id) AS x FROM orders",
        "SELECT quantity +\n  order_id AS x,\n small + abs(day) as y FROM orders",
        "SELECT quantity FROM orders WHERE price",
        "SELECT now() AS x, uuid() AS y, sum(quantity) AS z, uper(order_id) AS u, CURRENT_TIMESTAMP AS v FROM orders",
        "SELECT count(*) AS n FROM orders GROUP BY order_id",
        "SELECT a.order_id FROM orders a JOIN x ON a.y = x.y",
        "SELECT (SELECT 1) AS x FROM orders",
        "SELECT 1/0 AS x FROM orders",
        "SELECT NULL AS x, quantity + 1, quantity AS x FROM orders",
        "SELECT quantity FROM orders; SELECT 1",
        "DROP TABLE orders",
        "SELECT quantity FROM orders ORDER BY 1",
        "SELECT 'abc FROM orders",
        "",
        "SELECT Quantity, o.price FROM orders",
        "SELECT 9223372036854775807 + 1 AS x FROM orders",
        "SELECT CAST(order_id AS wrong) AS x, CAST(order_id AS decimal) AS y FROM orders",
    ] {
        println!("{}\n-----", refused(sql));
    }
    println!(
        "{}",
        job()
            .source("order-lines", "a string")
            .transform("t", "order-lines", "SELECT * FROM order-lines")
            .kafka_sink("s", "order-lines", "b")
            .sink("x", "t")
            .refusal()
    );
}
