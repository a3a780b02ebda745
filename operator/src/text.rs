//! Texts of others, which may be of any length, where only so much of them is kept.

/// Cuts a text after so many bytes at most, and shows that it did.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned(), 5), "short");
        assert_eq!(cut("long".to_owned(), 3), "lon…");
        assert_eq!(cut("äöü".to_owned(), 3), "ä…");
    }
}
