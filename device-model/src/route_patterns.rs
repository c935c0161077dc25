//! Route patterns: CUCM's pattern language and its choice of the most specific match.
//!
//! `X` is one digit, `!` one or more digits, `[1-5]` and `[^1]` one digit (not) of a set, `.` ends the access code,
//! `+`, `*` and `#` stand for themselves (`\+` too). The number is dialled en bloc, so there is no waiting for digits.

use crate::calling_search_spaces::{Partition, Reach, Spaces};
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
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    /// Tokens that stand before the dot.
    access_code: usize,
    discard_pre_dot: bool,
    pub(crate) trunk: TrunkName,
    pub(crate) partition: Partition,
    /// Its place in the plan.
    pub(crate) index: usize,
}

impl Pattern {
    /// The less, the more specific.
    fn width(&self) -> (bool, u32, usize) {
        let widths: Vec<u32> = self.tokens.iter().map(Token::width).collect();
        (
            self.tokens.contains(&Token::Many),
            widths.iter().sum::<u32>() * 64 / (widths.len() as u32).max(1),
            usize::MAX - widths.len(),
        )
    }

    /// What is sent to the trunk for a number that matches.
    pub(crate) fn sends(&self, dialled: &Dn) -> Dn {
        let from = if self.discard_pre_dot { self.access_code } else { 0 };
        dialled.as_str().chars().skip(from).collect::<String>().into()
    }
}

/// The patterns, the most specific first, each with how specific it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Vec<((bool, u32, usize), Pattern)>);

/// What a dialled number matches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matches<'a> {
    /// The most specific of those within reach; of those that are equally so, the one whose partition comes first.
    pub(crate) best: Option<&'a Pattern>,
    /// The most specific of those out of reach, where none within reach is as specific.
    pub(crate) hidden: Option<&'a Pattern>,
}

impl Patterns {
    /// Patterns that can't be read never match; the configuration's reader refused them before.
    pub(crate) fn new(plans: &[PatternPlan], spaces: &Spaces) -> Self {
        let read = |(index, plan)| read(plan, index, spaces).map(|pattern| (pattern.width(), pattern));
        let mut patterns: Vec<_> = plans.iter().enumerate().filter_map(read).collect();
        patterns.sort_by_key(|(width, _)| *width);
        Self(patterns)
    }

    /// What a number matches for those who reach so far. One walk over the patterns at most.
    pub(crate) fn matches(&self, dialled: &Dn, reach: &Reach) -> Matches<'_> {
        let digits: Vec<char> = dialled.as_str().chars().take(MAX_DIGITS + 1).collect();
        let mut found = Matches::default();
        if digits.len() > MAX_DIGITS {
            return found;
        }
        let mut best = None;
        for (width, pattern) in &self.0 {
            if best.is_some_and(|(best, _)| best < width) {
                break;
            }
            let rank = reach.rank(pattern.partition);
            let useless = match (rank, best) {
                (Some(rank), Some((_, best))) => rank >= best,
                (Some(_), None) => false,
                (None, best) => best.is_some() || found.hidden.is_some(),
            };
            if useless || !matches(&pattern.tokens, &digits) {
                continue;
            }
            match rank {
                Some(rank) => (best, found.best) = (Some((width, rank)), Some(pattern)),
                None => found.hidden = Some(pattern),
            }
        }
        found
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

fn read(plan: &PatternPlan, index: usize, spaces: &Spaces) -> Option<Pattern> {
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
        partition: spaces.partition(plan.partition.as_ref()),
        index,
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
    use crate::plan::SpacePlan;

    fn spaces(names: &[&str]) -> Spaces {
        let partitions = names.iter().map(|name| (*name).into()).collect();
        Spaces::new(&[SpacePlan { name: "all".into(), partitions }])
    }

    fn table(texts: &[(&str, bool, Option<&str>)], spaces: &Spaces) -> Patterns {
        let plan = |(text, discard, partition): &(&str, bool, Option<&str>)| PatternPlan {
            pattern: (*text).into(),
            trunk: partition.unwrap_or(text).into(),
            discard_pre_dot: *discard,
            partition: partition.map(Into::into),
        };
        Patterns::new(&texts.iter().map(plan).collect::<Vec<_>>(), spaces)
    }

    fn patterns(texts: &[(&str, bool)]) -> Patterns {
        let texts: Vec<_> = texts.iter().map(|(text, discard)| (*text, *discard, None)).collect();
        table(&texts, &Spaces::default())
    }

    fn route(table: &Patterns, number: &str) -> Option<(String, String)> {
        let number = number.into();
        let best = table.matches(&number, &Reach::default()).best?;
        Some((best.trunk.to_string(), best.sends(&number).to_string()))
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
        let route = |n: &str| route(&table, n);
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
        assert_eq!(route(&patterns(&[("[]", false)]), "1"), None);
    }

    #[test]
    fn the_most_specific_within_reach_wins_and_order_decides_between_equals() {
        let spaces = spaces(&["local", "national", "abroad"]);
        let table = table(
            &[
                ("9.!", true, Some("abroad")),
                ("9.!", true, Some("national")),
                ("9.0X!", true, Some("national")),
                ("9.00X!", true, Some("abroad")),
                ("9.112", true, None),
                ("9.1XX", true, Some("local")),
            ],
            &spaces,
        );
        for (reached, number, best, hidden) in [
            (&["national", "abroad"][..], "9555", "national", ""),
            (&["abroad", "national"], "9555", "abroad", ""),
            (&["national", "abroad"], "900441", "abroad", ""),
            (&["national"], "900441", "national", "abroad"),
            (&["local"], "9150", "local", ""),
            (&["national"], "9150", "national", "local"),
            (&["local"], "9112", "9.112", ""),
            (&[], "9112", "9.112", ""),
            (&["local"], "900441", "", "abroad"),
            (&["local"], "8", "", ""),
        ] {
            let list: Vec<Partition> = reached.iter().map(|n| spaces.partition(Some(&(*n).into()))).collect();
            let reach = Reach::new(list.into_iter());
            let found = table.matches(&number.into(), &reach);
            let name = |pattern: Option<&Pattern>| pattern.map_or(String::new(), |p| p.trunk.to_string());
            assert_eq!((&*name(found.best), &*name(found.hidden)), (best, hidden), "{number} by {reached:?}");
        }
    }
}
