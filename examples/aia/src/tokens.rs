//! How many tokens a text has, about: for what must be known before the language model has counted, or when it does not say.

/// Letters of a Latin text in one token, about.
const LETTERS: u64 = 4;

/// An estimate that is rather too high: a quarter of the ASCII characters and all others, which Chinese text comes close to.
pub(crate) fn estimate(text: &str) -> u32 {
    let (mut ascii, mut others) = (0_u64, 0_u64);
    for c in text.chars() {
        if c.is_ascii() { ascii += 1 } else { others += 1 }
    }
    u32::try_from(ascii.div_ceil(LETTERS) + others).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::estimate;

    #[test]
    fn letters_cost_a_quarter_and_characters_one() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("a"), 1);
        assert_eq!(estimate("lead in the blood"), 5);
        assert_eq!(estimate("血铅筛查"), 4);
    }
}
