//! What the kernel says of a process and of the machine (`proc(5)`).

use std::time::Duration;

/// A tick of the times in `/proc`: USER_HZ is 100 on every machine that this program is built for.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process so far, in user and kernel mode.
pub(super) fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    ticks_of_stat(&stat).map_or(Duration::ZERO, |ticks| TICK * ticks)
}

/// The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
fn ticks_of_stat(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Resident memory of a process in bytes.
pub(super) fn resident(process: u32) -> u64 {
    status(process, "VmRSS:") * 1024
}

/// Threads of a process.
pub(super) fn threads(process: u32) -> u64 {
    status(process, "Threads:")
}

fn status(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Processor time of all cores so far: busy, and all there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    busy: u64,
    all: u64,
}

impl Machine {
    pub(super) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::of_stat(&stat).unwrap_or(Self { busy: 0, all: 0 })
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn of_stat(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> =
            line.split_ascii_whitespace().take(8).map(|field| field.parse().unwrap_or(0)).collect();
        let all = fields.iter().sum();
        let idle = fields.get(3)? + fields.get(4)?;
        Some(Self { busy: all - idle, all })
    }

    /// The share of all cores that was busy since then, 0 to 1.
    pub(super) fn busy_since(self, then: Self) -> f64 {
        let all = self.all.saturating_sub(then.all);
        if all == 0 { 0.0 } else { self.busy.saturating_sub(then.busy) as f64 / all as f64 }
    }
}

/// What the machine is: its processor and how many cores of it there are.
pub(super) fn describe() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(ticks_of_stat(stat), Some(200));
        assert_eq!(ticks_of_stat("42 (short) S 1"), None);
    }

    #[test]
    fn the_machine_is_busy_where_it_is_not_idle() {
        let at = |line: &str| Machine::of_stat(line).expect("a line");
        let before = at("cpu  10 0 10 80 0 0 0 0 0 0\n");
        let after = at("cpu  60 0 10 120 10 0 0 0 0 0\n");
        assert!((after.busy_since(before) - 0.5).abs() < 1e-9);
        assert!(before.busy_since(before).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let me = std::process::id();
        assert!(resident(me) > 0);
        assert!(threads(me) > 0);
    }
}
