//! The transfer key of a phone: REFER in a dialog (RFC 3515), to a number or to the other end of another call (Replaces,
//! RFC 3891), and what is reported of it.

use super::Leg;
use crate::dialog::DialogId;
use crate::invite::context::{Cx, Server};
use crate::invite::parties::number_of;
use crate::message::{Method, NameAddr, Request, Response, Scheme};
use crate::port::{Event, InviteHandle, ReferTo};
use std::sync::Arc;

/// How long a report may be waited for at the most, as the first one says.
const LONGEST_SECONDS: u32 = 600;
/// The Content-Type of reports (RFC 3420).
const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// The REFERs of a dialog.
#[derive(Debug, Default)]
pub(crate) struct Referrals {
    /// How many there were.
    count: u32,
    /// The one that is under way.
    open: Option<Referral>,
}

#[derive(Debug)]
struct Referral {
    /// Of its reports; the second one of a dialog is told from the first (RFC 3515 §2.4.6).
    event: String,
    reports: Reports,
}

/// Whether the referrer wants to hear what came of it (RFC 4488).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reports {
    Wanted,
    Unwanted,
}

/// Whether more reports follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Last,
}

/// What a REFER wants.
enum Wanted {
    Number(String),
    /// The dialog with these tags, in the order of the header.
    Dialog {
        call_id: Arc<str>,
        tags: [Arc<str>; 2],
    },
}

impl Leg {
    pub(super) fn on_refer(&mut self, cx: &mut Cx<'_>, server: &Server) {
        // Before a call is answered its caller may end it and make another; after its end there is nothing to transfer.
        if !self.confirmed || cx.muted {
            return cx.refuse(server, 403);
        }
        let wanted = match wanted(&server.request) {
            Ok(wanted) => wanted,
            Err(status) => return cx.refuse(server, status),
        };
        if self.referrals.open.is_some() {
            return cx.refuse(server, 491);
        }
        let reports = match server.request.headers.get("Refer-Sub") {
            Some(value) if value.trim().eq_ignore_ascii_case("false") => Reports::Unwanted,
            Some(_) | None => Reports::Wanted,
        };
        let mut reply = server.reply(202).with("Contact", format!("<{}>", self.contact));
        if reports == Reports::Unwanted {
            reply = reply.with("Refer-Sub", "false");
        }
        cx.respond(server, reply);
        self.referrals.count += 1;
        let number = server.request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let first = self.referrals.count == 1;
        let event = if first { "refer".to_owned() } else { format!("refer;id={number}") };
        self.referrals.open = Some(Referral { event, reports });
        self.report(cx, 100, Place::First);
        match wanted {
            Wanted::Number(number) => cx.event(Event::Referred(cx.call, ReferTo::Number(number))),
            Wanted::Dialog { call_id, tags } => match call_of(cx, &call_id, tags) {
                Some(call) => cx.event(Event::Referred(cx.call, ReferTo::Call(call))),
                None => self.referred(cx, 481),
            },
        }
    }

    /// [`crate::port::Command::Referred`].
    pub fn referred(&mut self, cx: &mut Cx<'_>, status: u16) {
        self.report(cx, status, Place::Last);
        self.referrals.open = None;
    }

    fn report(&mut self, cx: &mut Cx<'_>, status: u16, place: Place) {
        let Some(open) = self.referrals.open.as_ref().filter(|open| open.reports == Reports::Wanted) else {
            return;
        };
        let event = open.event.clone();
        let cseq = self.dialog.next_cseq();
        let mut notify = self.request(Method::Notify, cseq);
        notify.headers.push("Contact", format!("<{}>", self.contact));
        notify.headers.push("Event", event);
        notify.headers.push(
            "Subscription-State",
            match place {
                Place::First => format!("active;expires={LONGEST_SECONDS}"),
                Place::Last => "terminated;reason=noresource".to_owned(),
            },
        );
        let body = format!("{}\r\n", Response::status_line(status));
        let notify = notify.with_body(SIPFRAG, body.into_bytes());
        let hop = self.next_hop(cx);
        cx.request_and_forget(hop, notify);
    }
}

/// The call of ours that has the dialog, whichever of its tags the referrer took for ours.
fn call_of(cx: &Cx<'_>, call_id: &Arc<str>, tags: [Arc<str>; 2]) -> Option<InviteHandle> {
    tags.into_iter().find_map(|local_tag| {
        let id = DialogId { call_id: Arc::clone(call_id), local_tag };
        cx.core.dialogs.get(&id).copied()
    })
}

/// What a REFER wants; else the status that refuses it.
fn wanted(request: &Request) -> Result<Wanted, u16> {
    let mut all = request.headers.all("Refer-To");
    let (Some(value), None) = (all.next(), all.next()) else { return Err(400) };
    let to = NameAddr::read(value).ok().filter(|to| !to.is_star()).ok_or(400_u16)?.uri;
    match to.scheme() {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
        Scheme::Other => return Err(416),
    }
    // Whatever else than a call it asks for is not ours to do.
    if to.param("method").is_some_and(|method| method != "INVITE") {
        return Err(403);
    }
    if let Some(replaces) = to.header("Replaces") {
        return dialog_of(&replaces).ok_or(400);
    }
    let number = number_of(&to);
    match number.is_empty() {
        false => Ok(Wanted::Number(number)),
        true if to.user().is_empty() => Err(484),
        true => Err(404),
    }
}

/// Reads `CALL-ID;to-tag=TAG;from-tag=TAG`.
fn dialog_of(replaces: &str) -> Option<Wanted> {
    let mut parts = replaces.split(';').map(str::trim);
    let call_id = parts.next().filter(|call_id| !call_id.is_empty())?;
    let (mut to, mut from) = (None, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "to-tag" => to = Some(value.trim()),
            "from-tag" => from = Some(value.trim()),
            _ => {}
        }
    }
    Some(Wanted::Dialog { call_id: call_id.into(), tags: [to?.into(), from?.into()] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Uri;

    fn read(values: &[&str]) -> Result<Option<[String; 3]>, u16> {
        let mut request = Request::new(Method::Refer, Uri::sip("x", "h", None));
        values.iter().for_each(|value| request.headers.push("Refer-To", *value));
        wanted(&request).map(|wanted| match wanted {
            Wanted::Number(number) => Some([number, String::new(), String::new()]),
            Wanted::Dialog { call_id, tags: [to, from] } => {
                Some([call_id.to_string(), to.to_string(), from.to_string()])
            }
        })
    }

    #[test]
    fn where_a_refer_wants_the_call() {
        let number = |number: &str| Ok(Some([number.to_owned(), String::new(), String::new()]));
        assert_eq!(read(&["<sip:2003@h>"]), number("2003"));
        assert_eq!(read(&["sip:2003@h"]), number("2003"));
        assert_eq!(read(&["\"Bob\" <tel:+1-555-0100>;x=y"]), number("+15550100"));
        assert_eq!(read(&["<sip:2003@h;method=INVITE>"]), number("2003"));
        let dialog = Ok(Some(["a@b".to_owned(), "1".to_owned(), "2".to_owned()]));
        let replaces = "<sip:2003@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>";
        assert_eq!(read(&[replaces]), dialog);
        assert_eq!(
            read(&[
                "<sip:2003@h;transport=tcp?Require=replaces&replaces=a%40b%3bfrom-tag=2%3Bto-tag=1%3Bearly-only>"
            ]),
            dialog
        );
        for (values, status) in [
            (&[][..], 400),
            (&["<sip:1@h>", "<sip:2@h>"], 400),
            (&["nonsense"], 400),
            (&["*"], 400),
            (&["sip:2003@h?Replaces=x"], 400),
            (&["<sip:2003@h?Replaces=x%3Bto-tag%3D1>"], 400),
            (&["<sip:2003@h?Replaces=%3Bto-tag%3D1%3Bfrom-tag%3D2>"], 400),
            (&["<https://h/>"], 416),
            (&["<sip:2003@h;method=BYE>"], 403),
            (&["<sip:h>"], 484),
        ] {
            assert_eq!(read(values), Err(status), "{values:?}");
        }
    }
}
