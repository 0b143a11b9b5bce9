/// The start of a text, of so many bytes at the most, that ends between two characters.
#[must_use]
pub fn text_start(text: &str, len_max: usize) -> &str {
    // `str::floor_char_boundary` does this once the oldest compiler has it.
    let end = (0..=len_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_its_characters() {
        for (len, want) in [
            (0, ""),
            (1, ""),
            (2, "\u{e9}"),
            (3, "\u{e9}a"),
            (4, "\u{e9}a"),
            (6, "\u{e9}a\u{20ac}"),
            (9, "\u{e9}a\u{20ac}"),
        ] {
            assert_eq!(text_start("\u{e9}a\u{20ac}", len), want, "{len}");
        }
    }
}
