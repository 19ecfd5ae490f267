//! The words of texts, as searches compare them.

/// The words of a text, in lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}

/// Whether all wanted words are there; the last one may be the beginning of a word.
pub(super) fn has_words(have: &[String], wanted: &[String]) -> bool {
    let last = wanted.len().saturating_sub(1);
    wanted.iter().enumerate().all(|(at, word)| {
        have.iter().any(|own| own == word || (at == last && own.starts_with(word.as_str())))
    })
}
