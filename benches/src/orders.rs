//! The input: orders as JSON, a pure function of their number.

/// Every tenth order has quantity 0 and is dropped by all contenders.
pub const INVALID_EVERY: u64 = 10;

/// Writes order `index` as JSON, about 95 bytes.
pub fn write_order(index: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let mixed = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let customer = mixed % 10_000;
    let quantity = if index.is_multiple_of(INVALID_EVERY) {
        0
    } else {
        1 + mixed % 9
    };
    let (units, cents) = (1 + mixed % 500, mixed % 100);
    let millis = 1_767_225_600_000 + index;
    out.clear();
    write!(
        out,
        r#"{{"order_id":"o-{index:010}","customer_id":"c-{customer:05}","quantity":{quantity},"price":{units}.{cents:02},"ts":{millis}}}"#
    )
    .expect("writing to memory does not fail");
}

/// How many of the first `rows` orders are valid.
pub fn valid_rows(rows: u64) -> u64 {
    rows - rows.div_ceil(INVALID_EVERY)
}
