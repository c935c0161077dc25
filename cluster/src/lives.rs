//! The lives of one node that are known: the signs of each, and when they were seen.

use crate::message::{Facts, Heard, Life};
use crate::timing::Timing;
use device_model::NodeName;
use std::time::{Duration, Instant};

/// Lives of a name that are known at once; of others nothing is heard until one of these is forgotten.
pub(crate) const MAX_LIVES: usize = 4;
/// Signs that a life must have given to be one beside another: one that has ended may still be told of once or twice.
const PROOF: u32 = 3;

/// What is known of a life.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) life: Life,
    pub(crate) facts: Facts,
    /// Since when.
    pub(crate) since: Instant,
    /// The greatest count, of those that are believed: heard on a link that is up, or told on one.
    pub(crate) seq: u64,
    /// The greatest that came from itself, and when.
    direct: Option<(u64, Instant)>,
    /// When that heartbeat of ours left that it has heard, the newest of them.
    acknowledged: Option<Instant>,
    /// The greatest count by another's word, and when that last grew.
    word: Option<(u64, Option<Instant>)>,
    signs: Signs,
}

/// How its count has grown.
#[derive(Clone, Copy, Debug, Default)]
enum Signs {
    /// It has not.
    #[default]
    None,
    /// So often without a break.
    Some { number: u32, last: Instant },
}

impl Known {
    fn new(life: Life, facts: Facts, seq: u64, now: Instant) -> Self {
        Self {
            life,
            facts,
            since: now,
            seq,
            direct: None,
            acknowledged: None,
            word: None,
            signs: Signs::None,
        }
    }

    /// A heartbeat of its own. Whether it is newer than all before.
    pub(crate) fn hear(&mut self, seq: u64, facts: &Facts, now: Instant) -> bool {
        let newer = self.direct.is_none_or(|(before, _)| before < seq);
        if newer {
            self.direct = Some((seq, now));
            self.facts = facts.clone();
        }
        newer
    }

    /// It has heard what we sent then.
    pub(crate) fn acknowledge(&mut self, sent: Instant) {
        self.acknowledged = self.acknowledged.max(Some(sent));
    }

    /// Its count is believed to have come so far. Whether it has grown.
    pub(crate) fn grow(&mut self, seq: u64, now: Instant, timing: Timing) -> bool {
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        let number = match self.signs {
            Signs::Some { number, last } if now.saturating_duration_since(last) < timing.silence() => {
                number.saturating_add(1)
            }
            Signs::Some { .. } | Signs::None => 1,
        };
        self.signs = Signs::Some { number, last: now };
        true
    }

    /// What a node says of it to which the link is up. The first that is said of it is no sign of life.
    fn told(&mut self, heard: &Heard, now: Instant, timing: Timing) {
        self.word = match self.word {
            None => Some((heard.seq, None)),
            Some((before, _)) if before < heard.seq => Some((heard.seq, Some(now))),
            Some(word) => Some(word),
        };
        if self.grow(heard.seq, now, timing) {
            self.facts = heard.facts.clone();
        }
    }

    /// Whether we hear it and it hears us.
    pub(crate) fn is_linked(&self, now: Instant, timing: Timing) -> bool {
        self.is_heard(now, timing) && is_within(self.acknowledged, timing.answer(), now)
    }

    /// Whether another hears it. What we have heard ourselves, and hear no more, says nothing new.
    pub(crate) fn is_told_of(&self, now: Instant, timing: Timing) -> bool {
        let Some((told, Some(grown))) = self.word else { return false };
        let is_news = self.direct.is_none_or(|(direct, _)| direct < told);
        is_within(Some(grown), timing.silence(), now) && (is_news || self.is_heard(now, timing))
    }

    pub(crate) fn is_up(&self, now: Instant, timing: Timing) -> bool {
        self.is_linked(now, timing) || self.is_told_of(now, timing)
    }

    /// Whether anything was heard of it lately.
    fn is_of_today(&self, now: Instant, timing: Timing) -> bool {
        self.is_up(now, timing)
            || is_within(Some(self.since), timing.silence(), now)
            || self.is_heard(now, timing)
    }

    /// Whether it is heard, believed or not: it wants to know that we do.
    fn is_heard(&self, now: Instant, timing: Timing) -> bool {
        is_within(self.direct.map(|(_, at)| at), timing.silence(), now)
    }

    /// Its last sign, if it has given enough of them to be up for certain, and is.
    fn proof(&self, now: Instant, timing: Timing) -> Option<Instant> {
        let Signs::Some { number, last } = self.signs else { return None };
        let certain = number >= PROOF && last >= self.since + timing.beside();
        (certain && is_within(Some(last), timing.silence(), now) && self.is_up(now, timing)).then_some(last)
    }

    /// Whether it is up beside one that is known since then.
    pub(crate) fn is_beside(&self, since: Instant, now: Instant, timing: Timing) -> bool {
        self.proof(now, timing).is_some_and(|last| last >= since + timing.beside())
    }

    /// When the next of its signs is too old.
    fn deadlines(&self, timing: Timing) -> impl Iterator<Item = Instant> {
        let signs = [self.word.and_then(|(_, at)| at), Some(self.since), self.direct.map(|(_, at)| at)];
        let answered = self.acknowledged.map(|sent| sent + timing.answer());
        signs.into_iter().flatten().map(move |sign| sign + timing.silence()).chain(answered)
    }

    /// The time in which we stood still doesn't count.
    fn forgive(&mut self, lost: Duration, now: Instant) {
        let later = |sign: Instant| (sign + lost).min(now);
        self.since = later(self.since);
        self.acknowledged = self.acknowledged.map(later);
        self.word = self.word.map(|(told, at)| (told, at.map(later)));
        self.direct = self.direct.map(|(seq, at)| (seq, later(at)));
        if let Signs::Some { last, .. } = &mut self.signs {
            *last = later(*last);
        }
    }
}

fn is_within(sign: Option<Instant>, time: Duration, now: Instant) -> bool {
    sign.is_some_and(|sign| now.saturating_duration_since(sign) < time)
}

/// All that are known of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives(Vec<Known>);

impl Lives {
    /// This one; made if nobody has told of it yet, with the count at which it is met. `None` if there are too many.
    pub(crate) fn meet(&mut self, life: Life, facts: &Facts, seq: u64, now: Instant) -> Option<&mut Known> {
        let at = match self.0.iter().position(|known| known.life == life) {
            Some(at) => at,
            None if self.0.len() >= MAX_LIVES => return None,
            None => {
                self.0.push(Known::new(life, facts.clone(), seq, now));
                self.0.len() - 1
            }
        };
        Some(&mut self.0[at])
    }

    /// Lets go of those of which nothing is heard any more, but for the one that is shown.
    pub(crate) fn forget(&mut self, shown: Option<Life>, now: Instant, timing: Timing) {
        self.0.retain(|known| Some(known.life) == shown || known.is_of_today(now, timing));
    }

    /// What a node says of one to which the link is up.
    pub(crate) fn told(&mut self, heard: &Heard, now: Instant, timing: Timing) {
        // Who has a count of 0 was not believed by the teller either.
        let known = (heard.seq > 0).then(|| self.meet(heard.life, &heard.facts, heard.seq, now)).flatten();
        if let Some(known) = known {
            known.told(heard, now, timing);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.iter()
    }

    /// The one that is the node now: of those that are up who has settled, of several such who started last, of none such who
    /// started first.
    pub(crate) fn current(&self, now: Instant, timing: Timing) -> Option<&Known> {
        let up = || self.0.iter().filter(|known| known.is_up(now, timing));
        let settled = up().filter(|known| known.facts.settled).max_by_key(|known| known.life);
        settled.or_else(|| up().min_by_key(|known| known.life))
    }

    /// The latest that was known for so long that it would have given a sign if it were up.
    pub(crate) fn silent(&self, now: Instant, timing: Timing) -> Option<&Known> {
        let quiet = |known: &&Known| now.saturating_duration_since(known.since) >= timing.silence();
        self.0.iter().filter(quiet).max_by_key(|known| known.life)
    }

    /// Whether two are up, or one says so that is.
    pub(crate) fn are_several(&self, now: Instant, timing: Timing) -> bool {
        let says = |known: &Known| known.facts.duplicate && known.is_up(now, timing);
        let beside = |one: &Known, other: &Known| {
            one.life != other.life
                && one.is_beside(other.since, now, timing)
                && other.is_beside(one.since, now, timing)
        };
        self.0.iter().any(|one| says(one) || self.0.iter().any(|other| beside(one, other)))
    }

    /// What a heartbeat says of them: of those that are up, that wait to hear that they are heard, and of the one that is
    /// shown. Of others nobody is told, so that they are forgotten.
    pub(crate) fn heard(
        &self,
        node: &NodeName,
        shown: Option<Life>,
        now: Instant,
        timing: Timing,
    ) -> impl Iterator<Item = Heard> {
        let told = move |known: &&Known| {
            Some(known.life) == shown || known.is_up(now, timing) || known.is_heard(now, timing)
        };
        self.0.iter().filter(told).map(|known| Heard {
            node: node.clone(),
            life: known.life,
            seq: known.seq,
            direct: known.direct.map(|(seq, _)| seq),
            facts: known.facts.clone(),
        })
    }

    pub(crate) fn deadlines(&self, timing: Timing) -> impl Iterator<Item = Instant> {
        self.0.iter().flat_map(move |known| known.deadlines(timing))
    }

    pub(crate) fn forgive(&mut self, lost: Duration, now: Instant) {
        self.0.iter_mut().for_each(|known| known.forgive(lost, now));
    }
}
