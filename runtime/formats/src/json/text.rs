//! Strings with escapes.

use super::scan::plain_length;
use crate::error::{DecodeReason, Fault};

/// Appends what the inside of a string stands for, its escapes resolved. `start` is where the
/// inside begins in the record, for messages.
pub(super) fn unescape(inside: &[u8], start: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = inside;
    loop {
        let (plain, after) = rest
            .split_at_checked(plain_length(rest))
            .unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        if after.is_empty() {
            return Ok(());
        }
        let fault = |reason| Fault::new(start + inside.len() - after.len(), reason);
        let bad = || fault(DecodeReason::BadEscape);
        let (escape, after_escape) = after.split_at_checked(2).ok_or_else(bad)?;
        rest = after_escape;
        out.push(match escape {
            br#"\""# => b'"',
            br"\\" => b'\\',
            br"\/" => b'/',
            br"\b" => 0x08,
            br"\f" => 0x0c,
            br"\n" => b'\n',
            br"\r" => b'\r',
            br"\t" => b'\t',
            br"\u" => {
                let (character, after_hex) = code_point(after_escape).map_err(fault)?;
                rest = after_hex;
                let mut buffer = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                continue;
            }
            _ => return Err(bad()),
        });
    }
}

/// The character of a `\u` escape, whose digits `text` begins with, and of a second escape if the
/// first is half of a surrogate pair.
fn code_point(text: &[u8]) -> Result<(char, &[u8]), DecodeReason> {
    let (unit, rest) = hex4(text).ok_or(DecodeReason::BadEscape)?;
    if let Some(character) = char::from_u32(unit) {
        return Ok((character, rest));
    }
    let second = rest.strip_prefix(br"\u").and_then(hex4);
    match (unit, second) {
        (0xd800..0xdc00, Some((low @ 0xdc00..0xe000, rest))) => {
            let code = 0x1_0000 + ((unit - 0xd800) << 10 | (low - 0xdc00));
            let character = char::from_u32(code).ok_or(DecodeReason::LoneSurrogate)?;
            Ok((character, rest))
        }
        _ => Err(DecodeReason::LoneSurrogate),
    }
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit << 4 | char::from(digit).to_digit(16)?;
    }
    Some((unit, rest))
}
