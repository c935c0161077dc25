//! Route patterns: CUCM's pattern language and its choice of the most specific match.
//!
//! `X` is one digit, `!` one or more digits, `[1-5]` and `[^1]` one digit (not) of a set, `.` ends the access code,
//! `+`, `*` and `#` stand for themselves (`\+` too). The number is dialled en bloc, so there is no waiting for digits.

use crate::ids::{Dn, TrunkName};
use crate::plan::PatternPlan;

/// Digits that a dialled number may have; longer ones match no pattern.
const MAX_DIGITS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    One(char),
    /// Bits 0 to 9.
    Set(u16),
    Many,
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Token::One(own) => *own == c,
            Token::Set(set) => c.to_digit(10).is_some_and(|d| set & (1 << d) != 0),
            Token::Many => c.is_ascii_digit(),
        }
    }

    /// How many different symbols it stands for: fewer is more specific.
    fn width(&self) -> u32 {
        match self {
            Token::One(_) => 1,
            Token::Set(set) => set.count_ones(),
            Token::Many => 10,
        }
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    tokens: Vec<Token>,
    /// Tokens that stand before the dot.
    access_code: usize,
    discard_pre_dot: bool,
    trunk: TrunkName,
}

/// The patterns, the most specific first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Patterns that can't be read never match; the configuration's reader refused them before.
    pub(crate) fn new(plans: &[PatternPlan]) -> Self {
        let mut patterns: Vec<Pattern> = plans.iter().filter_map(read).collect();
        patterns.sort_by_key(|p| {
            let widths: Vec<u32> = p.tokens.iter().map(Token::width).collect();
            (
                p.tokens.contains(&Token::Many),
                widths.iter().sum::<u32>() * 64 / (widths.len() as u32).max(1),
                usize::MAX - widths.len(),
            )
        });
        Self(patterns)
    }

    /// The trunk for a dialled number, and the number to send there.
    pub(crate) fn route(&self, dialled: &Dn) -> Option<(TrunkName, Dn)> {
        let digits: Vec<char> = dialled.as_str().chars().take(MAX_DIGITS + 1).collect();
        if digits.len() > MAX_DIGITS {
            return None;
        }
        let pattern = self.0.iter().find(|p| matches(&p.tokens, &digits))?;
        let from = if pattern.discard_pre_dot { pattern.access_code } else { 0 };
        Some((pattern.trunk.clone(), digits[from..].iter().collect::<String>().into()))
    }
}

/// Whether the tokens take all the digits; the work is bounded by their product.
fn matches(tokens: &[Token], digits: &[char]) -> bool {
    let mut open = vec![false; digits.len() + 1];
    open[0] = true;
    for token in tokens {
        let mut next = vec![false; digits.len() + 1];
        for (i, c) in digits.iter().enumerate() {
            let continues = *token == Token::Many && next[i];
            next[i + 1] = (open[i] || continues) && token.takes(*c);
        }
        open = next;
    }
    open[digits.len()]
}

fn read(plan: &PatternPlan) -> Option<Pattern> {
    let mut tokens = Vec::new();
    let mut access_code = 0;
    let mut chars = plan.pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            'X' | 'x' => tokens.push(Token::Set(0x3ff)),
            '!' => tokens.push(Token::Many),
            '.' => access_code = tokens.len(),
            '[' => tokens.push(read_set(&mut chars)?),
            '\\' => tokens.push(Token::One(chars.next()?)),
            '0'..='9' | '+' | '*' | '#' | 'A'..='D' => tokens.push(Token::One(c)),
            _ => return None,
        }
    }
    (!tokens.is_empty()).then(|| Pattern {
        tokens,
        access_code,
        discard_pre_dot: plan.discard_pre_dot,
        trunk: plan.trunk.clone(),
    })
}

fn read_set(chars: &mut std::str::Chars<'_>) -> Option<Token> {
    let (mut set, mut negated, mut last, mut range) = (0u16, false, None::<u32>, false);
    for c in chars.by_ref() {
        match c {
            ']' => return (!range).then_some(Token::Set(if negated { !set & 0x3ff } else { set })),
            '^' if last.is_none() && !negated => negated = true,
            '-' if last.is_some() && !range => range = true,
            _ => {
                let digit = c.to_digit(10)?;
                let from = if range { last? } else { digit };
                (from..=digit).for_each(|d| set |= 1 << d);
                (last, range) = (Some(digit), false);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[(&str, bool)]) -> Patterns {
        let plan = |(text, discard): &(&str, bool)| PatternPlan {
            pattern: (*text).into(),
            trunk: (*text).into(),
            discard_pre_dot: *discard,
        };
        Patterns::new(&texts.iter().map(plan).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let table = patterns(&[
            ("9.!", true),
            ("9.1XXX", true),
            ("9.1[2-4]XX", true),
            ("9.1[^2]XX", false),
            ("\\+49!", false),
            ("0.X", true),
        ]);
        let route = |n: &str| table.route(&n.into()).map(|(t, n)| (t.to_string(), n.to_string()));
        let to = |t: &str, n: &str| Some((t.to_string(), n.to_string()));
        assert_eq!(route("91299"), to("9.1[2-4]XX", "1299"));
        assert_eq!(route("91999"), to("9.1[^2]XX", "91999"));
        assert_eq!(route("9199"), to("9.!", "199"));
        assert_eq!(route("+4930"), to("\\+49!", "+4930"));
        assert_eq!(route("05"), to("0.X", "5"));
        for nothing in ["9", "", "0", "055", "8123", "+49", "9a", &"9".repeat(65)] {
            assert_eq!(route(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_matches_nothing() {
        for bad in ["[", "[1-", "[1-]", "@", "", "[a]", "\\"] {
            assert!(patterns(&[(bad, false)]).0.is_empty(), "{bad}");
        }
        // An empty set is odd, but takes nothing.
        assert_eq!(patterns(&[("[]", false)]).route(&"1".into()), None);
    }
}
