//! `/metrics`: what the shell counts and how the node is, in Prometheus' text format. No label grows with devices or calls.

use super::counters::Counters;
use super::now;
use super::queue::{Event, Queue};
use crate::node::{AdminRequest, alarms};
use security::shares::Share;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

/// The node is asked no oftener, however many ask for its metrics: they need no password.
const FRESH: Duration = Duration::from_millis(100);
/// A node that is so far behind is told of by what the shell counts alone.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What the node said last, and when; nothing when it did not answer.
#[derive(Debug, Default)]
pub(super) struct Gauges(Mutex<Option<(Instant, Option<Value>)>>);

impl Gauges {
    /// How the node is; `None` when it does not answer in time.
    pub(super) async fn ask(&self, queue: &Queue) -> Option<Value> {
        // Held while the node is asked: whoever comes meanwhile gets the same answer.
        let mut last = self.0.lock().await;
        if let Some((at, value)) = &*last
            && now().saturating_duration_since(*at) < FRESH
        {
            return value.clone();
        }
        let (asker, answer) = oneshot::channel();
        let asked = async {
            queue.send(Event::Admin(AdminRequest::Metrics, asker)).await.ok()?;
            answer.await.ok()?.ok()
        };
        let value = timeout(ANSWER_LIMIT, asked).await.ok().flatten();
        *last = Some((now(), value.clone()));
        value
    }
}

/// All of it.
pub(super) fn render(counters: &Counters, node: Option<&Value>) -> String {
    let mut text = counters.prometheus();
    if let Some(Value::Object(node)) = node {
        gauges(&mut text, node);
    }
    text
}

/// A gauge for each number, and the alarms that stand by their names: those of the code, of which there are so many.
fn gauges(text: &mut String, node: &Map<String, Value>) {
    for (name, value) in node.iter().filter(|(_, value)| value.is_number()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE ctimanager_{name} gauge\nctimanager_{name} {value}");
    }
    let by_state = node.get("nodes_by_state").and_then(Value::as_object);
    let _ = writeln!(text, "# HELP ctimanager_nodes Nodes of the cluster, as this one sees them.");
    let _ = writeln!(text, "# TYPE ctimanager_nodes gauge");
    for (state, count) in by_state.into_iter().flatten() {
        let _ = writeln!(text, "ctimanager_nodes{{state=\"{state}\"}} {count}");
    }
    let standing = node.get("standing").and_then(Value::as_object);
    let _ = writeln!(text, "# HELP ctimanager_alarms_standing Conditions that stand now.");
    let _ = writeln!(text, "# TYPE ctimanager_alarms_standing gauge");
    for alarm in alarms::ALL {
        let count =
            standing.and_then(|standing| standing.get(alarm.name)).and_then(Value::as_u64).unwrap_or(0);
        let _ = writeln!(text, "ctimanager_alarms_standing{{alarm=\"{}\"}} {count}", alarm.name);
    }
    let refused = node.get("refused").and_then(Value::as_array);
    let _ = writeln!(text, "# HELP ctimanager_shares_refused_total What was refused for want of a share.");
    let _ = writeln!(text, "# TYPE ctimanager_shares_refused_total counter");
    for (index, share) in Share::all().enumerate() {
        let count = refused.and_then(|all| all.get(index)).and_then(Value::as_u64).unwrap_or(0);
        let (name, who) = (share.row().name, share.row().who.name());
        let _ = writeln!(text, "ctimanager_shares_refused_total{{share=\"{name}\",who=\"{who}\"}} {count}");
    }
    let _ =
        writeln!(text, "# HELP ctimanager_calls_refused_total Calls that a rule refused, or their way on.");
    let _ = writeln!(text, "# TYPE ctimanager_calls_refused_total counter");
    let refused = node.get("calls_refused").and_then(Value::as_object);
    for (rule, count) in refused.into_iter().flatten() {
        let _ = writeln!(text, "ctimanager_calls_refused_total{{rule=\"{rule}\"}} {count}");
    }
    let delivered = node.get("srtp_keys").and_then(|keys| keys["delivered"].as_u64()).unwrap_or(0);
    let help = "Keys of media that went out to applications.";
    let _ = writeln!(text, "# HELP ctimanager_srtp_keys_delivered_total {help}");
    let _ = writeln!(text, "# TYPE ctimanager_srtp_keys_delivered_total counter");
    let _ = writeln!(text, "ctimanager_srtp_keys_delivered_total {delivered}");
    let _ =
        writeln!(text, "# HELP ctimanager_sdes_lines_refused_total Lines `a=crypto` that were not usable.");
    let _ = writeln!(text, "# TYPE ctimanager_sdes_lines_refused_total counter");
    let refused = node.get("sdes_lines_refused").and_then(Value::as_object);
    for (reason, count) in refused.into_iter().flatten() {
        let _ = writeln!(text, "ctimanager_sdes_lines_refused_total{{reason=\"{reason}\"}} {count}");
    }
    if let Some(version) = node.get("version").and_then(Value::as_str) {
        let _ = writeln!(text, "# TYPE ctimanager_build_info gauge");
        let _ = writeln!(text, "ctimanager_build_info{{version=\"{version}\"}} 1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::queue::queue;
    use serde_json::json;

    #[test]
    fn numbers_become_gauges_and_standing_alarms_have_their_names() {
        let node = json!({"sessions": 2, "state": "running", "version": "0.1.0", "standing": {"MaxDevicesPerNodeExceeded": 1}});
        let text = render(&Counters::default(), Some(&node));
        for line in [
            "# TYPE ctimanager_sessions gauge\nctimanager_sessions 2\n",
            "\nctimanager_alarms_standing{alarm=\"MaxDevicesPerNodeExceeded\"} 1\n",
            "\nctimanager_alarms_standing{alarm=\"CtiMaxConnectionReached\"} 0\n",
            "\nctimanager_build_info{version=\"0.1.0\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("ctimanager_state"), "a word is no number: {text}");
        for line in text.lines() {
            let value = line.rsplit_once(' ').map_or("", |(_, value)| value);
            assert!(line.starts_with("# ") || value.parse::<f64>().is_ok(), "{line}");
        }
        let without = render(&Counters::default(), None);
        assert!(
            without.contains("ctimanager_accept_errors_total 0\n")
                && !without.contains("ctimanager_sessions"),
            "{without}"
        );
    }

    #[tokio::test]
    async fn those_who_ask_together_share_one_answer_and_a_node_that_is_gone_is_told_of_without_it() {
        let (queue, mut waiting) = queue(8, 1 << 20);
        let gauges = Gauges::default();
        let node = async {
            let Some(queued) = waiting.recv().await else { panic!("it is asked") };
            let Event::Admin(AdminRequest::Metrics, answer) = queued.event else { panic!("that is asked") };
            answer.send(Ok(json!({"sessions": 1}))).expect("it is waited for");
        };
        let (first, second, ()) = tokio::join!(gauges.ask(&queue), gauges.ask(&queue), node);
        assert_eq!((&first, &second), (&Some(json!({"sessions": 1})), &first));
        assert!(waiting.try_recv().is_err(), "once");
        drop(waiting);
        assert_eq!(Gauges::default().ask(&queue).await, None);
    }

    #[tokio::test]
    async fn a_node_that_has_no_answer_is_not_asked_again_by_all_who_wait() {
        let (queue, mut waiting) = queue(8, 1 << 20);
        let gauges = Gauges::default();
        let node = async {
            let Some(queued) = waiting.recv().await else { panic!("it is asked") };
            let Event::Admin(AdminRequest::Metrics, answer) = queued.event else { panic!("that is asked") };
            answer.send(Err("too many questions wait".into())).expect("it is waited for");
        };
        let told = tokio::join!(gauges.ask(&queue), gauges.ask(&queue), gauges.ask(&queue), node);
        assert_eq!(told, (None, None, None, ()));
        assert!(waiting.try_recv().is_err(), "once");
    }
}
