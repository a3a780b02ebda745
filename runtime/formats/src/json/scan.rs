//! Walks over JSON text and checks that it is well formed, without making values of it.
//!
//! Source: RFC 8259.

use crate::error::{DecodeReason, Fault};

/// Most objects and arrays in one another, the record itself included.
pub const MAX_DEPTH: u32 = 64;

/// What kind of value stands somewhere, and where: from its first byte up to behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A string, and whether it has escapes.
    String {
        escaped: bool,
    },
    Object,
    Array,
}

impl Kind {
    /// For messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::True | Self::False => "a boolean",
            Self::Number => "a number",
            Self::String { .. } => "a string",
            Self::Object => "an object",
            Self::Array => "an array",
        }
    }
}

/// Number of bytes up to the first `"`, `\` or control character, or to the end.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut length = 0;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return length + (special.trailing_zeros() / 8) as usize;
        }
        length += 8;
        rest = after;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    length + rest.iter().position(special).unwrap_or(rest.len())
}

/// The high bit of the lowest byte that is `"`, `\` or a control character, if there is one; bits
/// of higher bytes mean nothing.
///
/// Source: "Bit Twiddling Hacks", determine if a word has a zero byte, or a byte less than n.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

/// A place in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) position: usize,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    pub(super) const fn fault(&self, reason: DecodeReason) -> Fault {
        Fault::new(self.position, reason)
    }

    /// Something else stands here, or the end.
    #[cold]
    pub(super) fn expected(&self, what: &'static str) -> Fault {
        self.fault(match self.peek() {
            Some(_) => DecodeReason::Expected(what),
            None => DecodeReason::UnexpectedEnd(what),
        })
    }

    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.position += 1;
        }
    }

    /// Walks over one byte.
    #[inline]
    pub(super) fn byte(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.position += 1;
        Ok(())
    }

    /// Walks over a value of any kind, which lies below `depth` objects and arrays.
    #[inline]
    pub(super) fn value(&mut self, depth: u32) -> Result<Value, Fault> {
        let start = self.position;
        let kind = match self.peek() {
            Some(b'"') => Kind::String {
                escaped: self.string()?,
            },
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b't') => self.literal(b"true", "`true`", Kind::True)?,
            Some(b'f') => self.literal(b"false", "`false`", Kind::False)?,
            Some(b'n') => self.literal(b"null", "`null`", Kind::Null)?,
            Some(open @ (b'{' | b'[')) => {
                self.container(depth)?;
                if open == b'{' {
                    Kind::Object
                } else {
                    Kind::Array
                }
            }
            _ => return Err(self.expected("a value")),
        };
        let end = self.position;
        Ok(Value { start, end, kind })
    }

    fn literal(&mut self, text: &[u8], what: &'static str, kind: Kind) -> Result<Kind, Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        if rest.starts_with(text) {
            self.position += text.len();
            return Ok(kind);
        }
        let same = rest.iter().zip(text).take_while(|(a, b)| a == b).count();
        self.position += same;
        Err(self.expected(what))
    }

    /// Walks over a string and says whether it has escapes. Escapes are checked for their form
    /// only, not for what they stand for.
    #[inline]
    pub(super) fn string(&mut self) -> Result<bool, Fault> {
        self.byte(b'"', "a string")?;
        let mut escaped = false;
        loop {
            self.position += plain_length(self.bytes.get(self.position..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault(DecodeReason::ControlCharacter)),
                None => return Err(self.expected("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        const WHAT: &str = "the rest of an escape";
        let start = self.position;
        let escape = self.bytes.get(start + 1);
        let hex = match escape {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(self.fault(DecodeReason::BadEscape)),
            None => return Err(Fault::new(start + 1, DecodeReason::UnexpectedEnd(WHAT))),
        };
        self.position += 2;
        for _ in 0..hex {
            match self.peek() {
                Some(byte) if byte.is_ascii_hexdigit() => self.position += 1,
                Some(_) => return Err(Fault::new(start, DecodeReason::BadEscape)),
                None => return Err(self.expected(WHAT)),
            }
        }
        Ok(())
    }

    /// Walks over a number.
    pub(super) fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return Err(self.expected("no digit behind a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.position += 1;
        }
        Ok(())
    }

    /// Walks over an object or array that lies below `depth` others.
    fn container(&mut self, depth: u32) -> Result<(), Fault> {
        let mut open = Open::default();
        loop {
            // Here a value begins; `self.peek()` is its first byte.
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth + open.count >= MAX_DEPTH {
                        return Err(self.fault(DecodeReason::TooDeep));
                    }
                    let object = bracket == b'{';
                    self.position += 1;
                    self.skip_whitespace();
                    open.push(object);
                    let empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if !empty {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.value(depth + open.count)?;
                }
            }
            if !self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Walks from the end of a value to the beginning of the next; false if there is none.
    fn close(&mut self, open: &mut Open) -> Result<bool, Fault> {
        while open.count > 0 {
            self.skip_whitespace();
            match (self.peek(), open.innermost_is_object()) {
                (Some(b','), object) => {
                    self.position += 1;
                    self.skip_whitespace();
                    if object {
                        self.key()?;
                    }
                    return Ok(true);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.position += 1;
                    open.pop();
                }
                (_, true) => return Err(self.expected("`,` or `}`")),
                (_, false) => return Err(self.expected("`,` or `]`")),
            }
        }
        Ok(false)
    }

    /// Walks over a key and its colon to the value.
    fn key(&mut self) -> Result<(), Fault> {
        self.string().map_err(key_fault)?;
        self.skip_whitespace();
        self.byte(b':', "`:`")?;
        self.skip_whitespace();
        Ok(())
    }
}

/// A string was expected as a key.
pub(super) fn key_fault(fault: Fault) -> Fault {
    let reason = match fault.reason {
        DecodeReason::Expected("a string") => DecodeReason::Expected("a key in quotes"),
        DecodeReason::UnexpectedEnd("a string") => DecodeReason::UnexpectedEnd("a key"),
        other => other,
    };
    Fault::new(fault.offset, reason)
}

/// Which of the open containers are objects, one bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    objects: u64,
    count: u32,
}

impl Open {
    const fn push(&mut self, object: bool) {
        self.objects = self.objects << 1 | object as u64;
        self.count += 1;
    }

    const fn pop(&mut self) {
        self.objects >>= 1;
        self.count -= 1;
    }

    const fn innermost_is_object(self) -> bool {
        self.objects & 1 == 1
    }
}
