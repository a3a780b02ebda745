//! A record's headers as the text of a JSON object, and back.
//!
//! The text has the headers in their order, one that is repeated as often as it is there. A value
//! that is UTF-8 is a string, one that is not `{"base64": "…"}`, and none at all is `null`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Its name.
    pub(super) name: String,
    /// Its value; `None` is none at all.
    pub(super) value: Option<Vec<u8>>,
}

impl Header {
    /// Bytes of name and value.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Replaces `text` by the headers. A name that is not UTF-8, which Kafka does not allow, gets
/// replacement characters.
pub(super) fn write<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    text: &mut String,
) {
    text.clear();
    text.push('{');
    for (index, (name, value)) in headers.enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_string(&String::from_utf8_lossy(name), text);
        text.push(':');
        match value.map(|value| std::str::from_utf8(value).map_err(|_| value)) {
            None => text.push_str("null"),
            Some(Ok(value)) => push_string(value, text),
            Some(Err(bytes)) => {
                text.push_str("{\"base64\":\"");
                STANDARD.encode_string(bytes, text);
                text.push_str("\"}");
            }
        }
    }
    text.push('}');
}

fn push_string(value: &str, text: &mut String) {
    text.push_str(&serde_json::Value::from(value).to_string());
}

/// Reads the text of a JSON object.
///
/// # Errors
/// It is none, or a value is neither text, nor bytes, nor null.
pub(super) fn read(text: &str) -> Result<Vec<Header>, serde_json::Error> {
    serde_json::from_str::<Headers>(text).map(|headers| headers.0)
}

struct Headers(Vec<Header>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object with the headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value::<Option<Value<'de>>>()?;
                    let value = value.map(Value::bytes).transpose();
                    headers.push(Header {
                        value: value.map_err(A::Error::custom)?,
                        name: name.into_owned(),
                    });
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[derive(serde::Deserialize)]
#[serde(
    untagged,
    expecting = "the value of a header is a string, null, or {\"base64\": \"…\"}"
)]
enum Value<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Bytes {
        base64: String,
    },
}

impl Value<'_> {
    fn bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Bytes { base64 } => STANDARD.decode(base64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(headers: &[Header]) -> String {
        let mut text = "old".to_owned();
        let pairs = headers.iter();
        let pairs = pairs.map(|header| (header.name.as_bytes(), header.value.as_deref()));
        write(pairs, &mut text);
        text
    }

    fn header(name: &str, value: Option<&[u8]>) -> Header {
        Header {
            name: name.to_owned(),
            value: value.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn text_bytes_and_nothing_are_told_apart() {
        let headers = [
            header("trace", Some(b"a\"b")),
            header("raw", Some(b"\xff\x00")),
            header("none", None),
            header("trace", Some(b"")),
        ];
        let text = text_of(&headers);
        assert_eq!(
            text,
            r#"{"trace":"a\"b","raw":{"base64":"/wA="},"none":null,"trace":""}"#
        );
        assert_eq!(read(&text).unwrap(), headers);
        assert_eq!(text_of(&[]), "{}");
        assert_eq!(read(" { } ").unwrap(), []);
    }

    #[test]
    fn what_are_no_headers_is_refused() {
        for (text, says) in [
            ("[]", "a JSON object with the headers"),
            ("", "EOF"),
            (r#"{"a": 1}"#, "the value of a header is a string"),
            (
                r#"{"a": {"base64": 1}}"#,
                "the value of a header is a string",
            ),
            (r#"{"a": {"base64": "?"}}"#, "Invalid"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn headers_are_read_back_as_written(
            headers in proptest::collection::vec(
                (".*", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8))),
                0..5,
            ),
        ) {
            let headers: Vec<Header> = headers
                .into_iter()
                .map(|(name, value)| Header { name, value })
                .collect();
            prop_assert_eq!(read(&text_of(&headers)).unwrap(), headers);
        }
    }
}
