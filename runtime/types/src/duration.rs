//! Durations and sizes as Kubernetes writes them: `500ms`, `1m30s`; `64Mi`, `1G`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in Kubernetes notation: numbers with a unit (`ms`, `s`, `m`, `h`), largest
/// unit first, as in `1h30m`. Whole milliseconds, not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KubeDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a duration: write a number with its unit (ms, s, m, h), such as 500ms, 10s, 15m or 1h30m"
)]
pub struct ParseDurationError {
    text: String,
}

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

fn unit_millis(unit: &str) -> Option<u64> {
    UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, millis)| *millis)
}

impl FromStr for KubeDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDurationError {
            text: text.to_owned(),
        };
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let unit = unit_millis(unit)
                .filter(|unit| *unit < last_unit)
                .ok_or_else(wrong)?;
            let millis = number.checked_mul(unit).ok_or_else(wrong)?;
            total = total.checked_add(millis).ok_or_else(wrong)?;
            last_unit = unit;
            rest = tail;
        }
        if last_unit == u64::MAX {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for KubeDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, millis) in UNITS.iter().rev() {
            let count = rest / millis;
            if count > 0 {
                write!(f, "{count}{name}")?;
                rest -= count * millis;
            }
        }
        Ok(())
    }
}

impl KubeDuration {
    /// From whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Whole milliseconds.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Serialize for KubeDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KubeDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for KubeDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
            "minLength": 1,
            "maxLength": 32,
        })
    }
}

/// A number of bytes in Kubernetes notation: a whole number, alone or with a unit (`Ki`, `Mi`, `Gi`,
/// `Ti`, or `k`, `M`, `G`, `T`), as in `512Mi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KubeSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a size: write whole bytes or a number with its unit (Ki, Mi, Gi, Ti), such as 512Mi or 2Gi"
)]
pub struct ParseSizeError {
    text: String,
}

const SIZES: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl FromStr for KubeSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut units = SIZES.iter();
        let unit = units.find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((text, 1));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| number.parse::<u64>().ok()).flatten();
        let size = number.and_then(|number| number.checked_mul(bytes));
        size.map(Self).ok_or_else(|| ParseSizeError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for KubeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |bytes: u64| self.0 > 0 && self.0.is_multiple_of(bytes);
        match SIZES.iter().find(|(_, bytes)| whole(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for KubeSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KubeSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for KubeSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$",
            "minLength": 1,
            "maxLength": 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kubernetes_durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("0", 0),
        ] {
            assert_eq!(
                text.parse::<KubeDuration>().unwrap().millis(),
                millis,
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "1s1m",
            "1d",
            "99999999999999999999s",
        ] {
            assert!(text.parse::<KubeDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn kubernetes_sizes_are_read_and_others_refused() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("64Mi", 64 << 20),
            ("2Gi", 2 << 30),
            ("3k", 3_000),
        ] {
            assert_eq!(text.parse::<KubeSize>().unwrap(), KubeSize(bytes), "{text}");
        }
        for text in [
            "",
            "Mi",
            "-1Mi",
            "1.5Gi",
            "1 Mi",
            "1MB",
            "99999999999Ti",
            "1m",
        ] {
            assert!(text.parse::<KubeSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_that_are_written_are_read_back(bytes in any::<u64>(), unit in 0..SIZES.len()) {
            let size = KubeSize(bytes >> 34).0.checked_mul(SIZES[unit].1).map_or(KubeSize(bytes), KubeSize);
            prop_assert_eq!(size.to_string().parse::<KubeSize>().unwrap(), size);
        }

        #[test]
        fn what_is_written_is_read_back(millis in 0_u64..1_000_000_000_000) {
            let duration = KubeDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse::<KubeDuration>().unwrap(), duration);
        }
    }
}
