//! Globs of event types and device names: `*` is any run of characters, `?` is one.

/// Whether the whole text fits the pattern. At most `pattern × text` steps and no recursion, whatever the pattern.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest does not fit: the last star, and the text that it has swallowed so far.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((star, swallowed)) => {
                    retry = Some((star, swallowed + 1));
                    p = star + 1;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "call.held"),
            ("call.*", "call.held"),
            ("call.*", "call."),
            ("*.held", "call.held"),
            ("c?ll.h*d", "call.held"),
            ("**a*", "ba"),
            ("PORT_*", "PORT_001"),
            ("", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("call.*", "call"),
            ("call", "call.held"),
            ("?", ""),
            ("", "a"),
            ("*b", "ba"),
            ("CALL.*", "call.held"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_wicked_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(64);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(128))));
    }
}
