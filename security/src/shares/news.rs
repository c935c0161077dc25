//! Telling of refusals: counted all, told once a second and somebody, with an alarm that begins and ends.

use super::{Share, Who};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Of so many it is told one by one at once; of all others together.
pub const MAX_TOLD: usize = 64;
/// After so long without a refusal its alarm is over.
pub const QUIET: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// What is to be logged, and whether an alarm begins or ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The row.
    pub share: Share,
    /// Who was refused.
    pub who: Who,
    /// How often since it was told last.
    pub refused: u64,
    /// How it stands.
    pub state: State,
}

/// How refusals stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first for a while: raise the alarm.
    Began,
    /// More of them.
    GoesOn,
    /// None for [`QUIET`]: clear it.
    Over,
}

#[derive(Debug)]
struct Standing {
    untold: u64,
    told: Option<Instant>,
    last: Instant,
}

impl Standing {
    fn due(&self) -> Instant {
        match self.told {
            None => self.last,
            Some(told) if self.untold > 0 => told + SECOND,
            Some(_) => self.last + QUIET,
        }
    }
}

/// What is still to be told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    counts: Vec<u64>,
    standing: BTreeMap<(Share, Who), Standing>,
    /// When the next is due at the earliest.
    next: Option<Instant>,
    lines: HashMap<Who, (Instant, u64)>,
}

impl Telling {
    pub(super) fn refused(&mut self, now: Instant, share: Share, who: &Who, times: u64) {
        if times == 0 {
            return;
        }
        self.add(share, times);
        let mut key = (share, who.clone());
        if self.standing.len() >= MAX_TOLD && !self.standing.contains_key(&key) {
            key.1 = Who::Others;
        }
        let standing = self.standing.entry(key).or_insert(Standing { untold: 0, told: None, last: now });
        standing.untold += times;
        standing.last = now;
        let due = standing.due();
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    pub(super) fn add(&mut self, share: Share, refused: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; Share::all().count()];
        }
        self.counts[share.index()] += refused;
    }

    pub(super) fn count(&self, share: Share) -> u64 {
        self.counts.get(share.index()).copied().unwrap_or(0)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn news(&mut self, now: Instant) -> Vec<News> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut news = Vec::new();
        self.standing.retain(|(share, who), standing| {
            if standing.due() > now {
                return true;
            }
            let state = match standing.told {
                None => State::Began,
                Some(_) if standing.untold > 0 => State::GoesOn,
                Some(_) => State::Over,
            };
            let refused = std::mem::take(&mut standing.untold);
            standing.told = Some(now);
            news.push(News { share: *share, who: who.clone(), refused, state });
            state != State::Over
        });
        self.next = self.standing.values().map(Standing::due).min();
        news
    }

    pub(super) fn line(&mut self, now: Instant, who: &Who) -> Option<u64> {
        let recently = |at: Instant| now.saturating_duration_since(at) < SECOND;
        if !self.lines.contains_key(who) && self.lines.len() >= MAX_TOLD {
            let mut left_out = 0;
            self.lines.retain(|who, (at, untold)| {
                let stays = recently(*at) || *who == Who::Others;
                left_out += if stays { 0 } else { *untold };
                stays
            });
            let since = now.checked_sub(SECOND).unwrap_or(now);
            self.lines.entry(Who::Others).or_insert((since, 0)).1 += left_out;
        }
        let full = self.lines.len() >= MAX_TOLD && !self.lines.contains_key(who);
        let who = if full { &Who::Others } else { who };
        match self.lines.get_mut(who) {
            Some((at, untold)) if recently(*at) => {
                *untold += 1;
                None
            }
            Some((at, untold)) => {
                *at = now;
                Some(std::mem::take(untold))
            }
            None => {
                self.lines.insert(who.clone(), (now, 0));
                Some(0)
            }
        }
    }
}
