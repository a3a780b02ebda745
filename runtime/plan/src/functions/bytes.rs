//! Lengths, hashes and encodings of texts and bytes.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use datafusion_common::Result;
use md5::Md5;
use millstream_types::text::hex;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::texts::count;
use super::{Function, Taken, rows};
use crate::semantics::call::Arguments;
use crate::semantics::cast::quoted;
use crate::semantics::coerce::convert;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, fail, refuse};

/// Reads base64 with and without `=` at its end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["length", "char_length", "character_length"],
        "length(text): in characters; length(bytes): in bytes; an int32",
        (1, 1),
        length,
        &[
            "length('日本')",
            "length(decode('ff00', 'hex'))",
            "length('')",
        ],
    ),
    Function::new(
        &["octet_length"],
        "octet_length(text or bytes): in bytes; an int32",
        (1, 1),
        |name, arguments| measured(name, arguments, |bytes| count(bytes.len())),
        &[
            "octet_length('日本')",
            "octet_length(decode('ff00', 'hex'))",
        ],
    ),
    Function::new(
        &["bit_length"],
        "bit_length(text or bytes)",
        (1, 1),
        |name, arguments| {
            measured(name, arguments, |bytes| {
                count(bytes.len().saturating_mul(8))
            })
        },
        &["bit_length('ab')"],
    ),
    Function::new(
        &["md5"],
        "md5(text or bytes): as hexadecimal digits",
        (1, 1),
        |name, arguments| {
            let data = data(&mut Taken::new(name, arguments))?;
            let is_text = data.data_type == Type::String;
            let kernel = rows(move |arguments: &Arguments, row| {
                Ok(bytes(arguments, is_text, row)?.map(|bytes| hex(&Md5::digest(bytes))))
            });
            Typed::call(name, kernel, Type::String, &[&data])
        },
        &["md5('')"],
    ),
    Function::new(
        &["sha224"],
        "sha224(text or bytes): bytes",
        (1, 1),
        hashed,
        &["encode(sha224(''), 'hex')"],
    ),
    Function::new(
        &["sha256"],
        "sha256(text or bytes): bytes",
        (1, 1),
        hashed,
        &["encode(sha256('a'), 'hex')"],
    ),
    Function::new(
        &["sha384"],
        "sha384(text or bytes): bytes",
        (1, 1),
        hashed,
        &[],
    ),
    Function::new(
        &["sha512"],
        "sha512(text or bytes): bytes",
        (1, 1),
        hashed,
        &[],
    ),
    Function::new(
        &["digest"],
        "digest(text or bytes, method): bytes; methods are md5, sha224, sha256, sha384 and sha512",
        (2, 2),
        digest,
        &["encode(digest('a', 'sha256'), 'hex')", "digest('a', 'md6')"],
    ),
    Function::new(
        &["encode"],
        "encode(bytes or text, format): text; formats are hex and base64",
        (2, 2),
        encode,
        &["encode('abc', 'base64')", "encode('ab', 'hex')"],
    ),
    Function::new(
        &["decode"],
        "decode(text, format): bytes",
        (2, 2),
        decode,
        &[
            "decode('YWI', 'base64')",
            "decode('6162', 'hex')",
            "decode('6', 'hex')",
        ],
    ),
];

/// A text or bytes.
fn data(taken: &mut Taken<'_>) -> Meaning<Typed> {
    let data = taken.any()?;
    match data.data_type {
        Type::String | Type::Bytes => Ok(data),
        Type::Null => convert(data, Type::String),
        other => Err(taken.takes("a text or bytes", other)),
    }
}

fn bytes(arguments: &Arguments, is_text: bool, row: usize) -> Result<Option<&[u8]>> {
    Ok(if is_text {
        arguments.texts(0)?.get(row).map(str::as_bytes)
    } else {
        arguments.bytes(0)?.get(row)
    })
}

fn measured(
    name: &str,
    arguments: Vec<Typed>,
    measure: fn(&[u8]) -> Result<i32>,
) -> Meaning<Typed> {
    let data = data(&mut Taken::new(name, arguments))?;
    let is_text = data.data_type == Type::String;
    let kernel = rows(move |arguments: &Arguments, row| {
        bytes(arguments, is_text, row)?.map(measure).transpose()
    });
    Typed::call(name, kernel, Type::Int32, &[&data])
}

fn length(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    if arguments
        .first()
        .is_some_and(|data| data.data_type == Type::Bytes)
    {
        return measured(name, arguments, |bytes| count(bytes.len()));
    }
    let text = data(&mut Taken::new(name, arguments))?;
    let kernel = rows(|arguments: &Arguments, row| {
        arguments
            .texts(0)?
            .get(row)
            .map(|text| count(text.chars().count()))
            .transpose()
    });
    Typed::call(name, kernel, Type::Int32, &[&text])
}

/// Computes a hash.
type Method = fn(&[u8]) -> Vec<u8>;

fn method(name: &str) -> Option<Method> {
    Some(match name.to_ascii_lowercase().as_str() {
        "md5" => |bytes| Md5::digest(bytes).to_vec(),
        "sha224" => |bytes| Sha224::digest(bytes).to_vec(),
        "sha256" => |bytes| Sha256::digest(bytes).to_vec(),
        "sha384" => |bytes| Sha384::digest(bytes).to_vec(),
        "sha512" => |bytes| Sha512::digest(bytes).to_vec(),
        _ => return None,
    })
}

fn hash(called: &str, method_name: &str, data: &Typed) -> Meaning<Typed> {
    let Some(method) = method(method_name) else {
        return Err(
            Refusal::new(format!("`{called}` has no method {}", quoted(method_name)))
                .with_help("methods are md5, sha224, sha256, sha384 and sha512"),
        );
    };
    let is_text = data.data_type == Type::String;
    let kernel =
        rows(move |arguments: &Arguments, row| Ok(bytes(arguments, is_text, row)?.map(method)));
    Typed::call(
        format!("{called} {method_name}"),
        kernel,
        Type::Bytes,
        &[data],
    )
}

fn hashed(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let data = data(&mut Taken::new(name, arguments))?;
    hash(name, name, &data)
}

fn digest(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (data, method) = (data(&mut taken)?, taken.text()?);
    match method.text() {
        Some(method) => hash(name, method, &data),
        None => refuse!("the method of `{name}` is written out, as 'sha256'"),
    }
}

/// The format of `encode` and `decode`, which is written out.
fn is_hex(name: &str, format: &Typed) -> Meaning<bool> {
    let Some(format) = format.text() else {
        return refuse!("the format of `{name}` is written out, as 'hex'");
    };
    match format.to_ascii_lowercase().as_str() {
        "hex" => Ok(true),
        "base64" => Ok(false),
        _ => Err(
            Refusal::new(format!("`{name}` has no format {}", quoted(format)))
                .with_help("formats are hex and base64"),
        ),
    }
}

fn encode(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let data = data(&mut taken)?;
    let in_hex = is_hex(name, &taken.text()?)?;
    let is_text = data.data_type == Type::String;
    let kernel = rows(move |arguments: &Arguments, row| {
        let encoded = |bytes: &[u8]| {
            if in_hex {
                hex(bytes)
            } else {
                STANDARD.encode(bytes)
            }
        };
        Ok(bytes(arguments, is_text, row)?.map(encoded))
    });
    Typed::call(
        format!("{name} hex {in_hex}"),
        kernel,
        Type::String,
        &[&data],
    )
}

fn decode(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let text = taken.text()?;
    let in_hex = is_hex(name, &taken.text()?)?;
    let kernel = rows(move |arguments: &Arguments, row| {
        let Some(text) = arguments.texts(0)?.get(row) else {
            return Ok(None);
        };
        let read = if in_hex {
            unhex(text)
        } else {
            LENIENT.decode(text).ok()
        };
        match read {
            Some(bytes) => Ok(Some(bytes)),
            None if in_hex => fail!("{} is not of hexadecimal digits, two a byte", quoted(text)),
            None => fail!("{} is not base64", quoted(text)),
        }
    });
    Typed::call(
        format!("{name} hex {in_hex}"),
        kernel,
        Type::Bytes,
        &[&text],
    )
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    bytes.collect()
}
