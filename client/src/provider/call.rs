//! Calls, connections and terminal connections (the contract's legs).

use super::observer::Events;
use super::registry::{LegRef, LegStatus};
use super::terminal::Terminal;
use super::{Error, Shared};
use crate::provider::driver::Adopt;
use device_model::{CallId, Cause, Dn, LegId};
use protocol::Event;
use protocol::methods::{
    CallAccept, CallAnswer, CallConference, CallConsult, CallDrop, CallDtmf, CallHold, CallPark,
    CallRedirect, CallReject, CallRetrieve, CallSetMedia, CallSetUserData, CallTransfer, DigitMs, Digits,
    Purpose, RtpPort,
};
use protocol::wire::{Leg, LegState};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One call on one line of one device. It stays usable when the leg is gone: requests are refused then.
#[derive(Clone, Debug)]
pub struct TerminalConnection {
    shared: Arc<Shared>,
    leg: LegRef,
}

/// How to redirect a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The caller's number to show; needs Allow Calling Number Modification.
    pub calling_number: Option<Dn>,
    /// In place of the number that was called at first.
    pub original_called: Option<Dn>,
    /// Drop the leg when the destination can't be reached; without it the leg is then as it was.
    pub drop_on_failure: bool,
}

/// What a transfer joins a call with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Another leg of the same terminal.
    With(LegId),
    /// A number, without asking there first.
    Blind(Dn),
}

impl TerminalConnection {
    pub(super) fn new(shared: Arc<Shared>, leg: LegRef) -> Self {
        Self { shared, leg }
    }

    /// The leg's id.
    #[must_use]
    pub fn id(&self) -> LegId {
        self.leg.id
    }

    /// The leg and its media, as last told.
    #[must_use]
    pub fn status(&self) -> LegStatus {
        self.leg.status.borrow().clone()
    }

    /// The leg, as last told.
    #[must_use]
    pub fn leg(&self) -> Arc<Leg> {
        self.leg.status.borrow().leg.clone()
    }

    /// Its state, as last told.
    #[must_use]
    pub fn state(&self) -> LegState {
        self.leg.status.borrow().leg.state
    }

    /// Its status, to be watched. The stream ends when the leg is gone.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<LegStatus> {
        self.leg.status.clone()
    }

    /// Waits until the status is as wished; `None` when the leg is gone before.
    pub async fn wait_for(&self, mut wished: impl FnMut(&LegStatus) -> bool) -> Option<LegStatus> {
        let mut status = self.leg.status.clone();
        let seen = status.wait_for(|s| wished(s) || s.is_over()).await.ok()?.clone();
        wished(&seen).then_some(seen)
    }

    /// Waits until the leg is gone.
    pub async fn gone(&self) {
        let mut status = self.leg.status.clone();
        // An error says that nothing will be told any more: gone as well.
        let _ = status.wait_for(LegStatus::is_over).await;
    }

    /// Its events from now on: digits above all; what lasts is in [`TerminalConnection::status`].
    #[must_use]
    pub fn events(&self) -> Events<Arc<Event>> {
        Events::new(self.shared.registry.observe_leg(self.leg.id))
    }

    /// Its terminal.
    #[must_use]
    pub fn terminal(&self) -> Terminal {
        Terminal::new(self.shared.clone(), self.leg().device.clone())
    }

    /// Its call.
    #[must_use]
    pub fn call(&self) -> Call {
        Call::new(self.shared.clone(), self.leg().call)
    }

    /// Accepts an offered call: the caller hears it ring.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn accept(&self) -> Result<(), Error> {
        self.shared.call(&CallAccept { leg: self.leg.id }).await.map(|_| ())
    }

    /// Answers.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn answer(&self) -> Result<(), Error> {
        self.shared.call(&CallAnswer { leg: self.leg.id }).await.map(|_| ())
    }

    /// Rejects an unanswered call; with cause 21 when none is given.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn reject(&self, cause: Option<Cause>) -> Result<(), Error> {
        self.shared.call(&CallReject { leg: self.leg.id, cause }).await.map(|_| ())
    }

    /// Sends the call elsewhere; ends when the destination rings or answers.
    ///
    /// # Errors
    /// `DESTINATION_…` ([`Error::is_destination`]) with the leg as it was; any [`Error`].
    pub async fn redirect(&self, destination: &str) -> Result<(), Error> {
        self.redirect_with(destination, Redirect::default()).await
    }

    /// As [`TerminalConnection::redirect`], with more to say.
    ///
    /// # Errors
    /// As there.
    pub async fn redirect_with(&self, destination: &str, how: Redirect) -> Result<(), Error> {
        let request = CallRedirect {
            leg: self.leg.id,
            destination: destination.into(),
            calling_number: how.calling_number,
            original_called: how.original_called,
            keep_on_failure: how.drop_on_failure.then_some(false),
        };
        self.shared.call(&request).await.map(|_| ())
    }

    /// Ends the leg.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn drop_leg(&self) -> Result<(), Error> {
        self.shared.call(&CallDrop { leg: self.leg.id }).await.map(|_| ())
    }

    /// Puts the call on hold.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn hold(&self) -> Result<(), Error> {
        self.shared.call(&CallHold { leg: self.leg.id }).await.map(|_| ())
    }

    /// Takes the call off hold.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn retrieve(&self) -> Result<(), Error> {
        self.shared.call(&CallRetrieve { leg: self.leg.id }).await.map(|_| ())
    }

    /// Holds the call and makes a second one about it, from a CTI port. When that fails or is dropped this one stays held.
    ///
    /// # Errors
    /// `MAX_CALLS`; `OPERATION_NOT_SUPPORTED` where the leg is a phone's or a route point's; any [`Error`].
    pub async fn consult(&self, destination: &str, purpose: Purpose) -> Result<TerminalConnection, Error> {
        let leg = self.leg();
        let request = CallConsult { leg: self.leg.id, destination: destination.into(), for_: purpose };
        let adopt = Adopt::NewCall { device: leg.device.clone(), dn: Some(leg.dn.clone()) };
        let (_, mut legs) = self.shared.request(&request, adopt).await?;
        let leg = legs.pop().ok_or_else(|| Error::BadAnswer("a new call without a leg".to_owned()))?;
        Ok(TerminalConnection::new(self.shared.clone(), leg))
    }

    /// Joins the call with another of the same device, or sends it away, and leaves. This call is the one that survives. A
    /// blind transfer ends when the destination rings or answers.
    ///
    /// # Errors
    /// `DESTINATION_…` ([`Error::is_destination`]) with the leg as it was; any [`Error`].
    pub async fn transfer(&self, to: Transfer) -> Result<(), Error> {
        let (with, destination) = match to {
            Transfer::With(leg) => (Some(leg), None),
            Transfer::Blind(dn) => (None, Some(dn)),
        };
        self.shared.call(&CallTransfer { leg: self.leg.id, with, destination }).await.map(|_| ())
    }

    /// Makes one conference of this and other calls; gives the number of participants.
    ///
    /// *Planned*: no node of this version does it, the answer is `OPERATION_NOT_SUPPORTED`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn conference(&self, with: &[LegId]) -> Result<u32, Error> {
        let request = CallConference { leg: self.leg.id, with: with.to_vec() };
        Ok(self.shared.call(&request).await?.participants)
    }

    /// Parks the call; gives the number where.
    ///
    /// *Planned*: no node of this version does it, the answer is `OPERATION_NOT_SUPPORTED`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn park(&self, park_number: Option<&str>) -> Result<Dn, Error> {
        let request = CallPark { leg: self.leg.id, park_number: park_number.map(Dn::from) };
        Ok(self.shared.call(&request).await?.park_number)
    }

    /// Sends digits by the server; with media of one's own, rather by [`crate::media::RtpEndpoint::send_digits`].
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn send_digits(&self, digits: &str, each: Option<Duration>) -> Result<(), Error> {
        let duration_ms = each.map(|d| DigitMs(d.as_millis().min(u128::from(u32::MAX)) as u32));
        let request = CallDtmf { leg: self.leg.id, digits: Digits(digits.into()), duration_ms };
        self.shared.call(&request).await.map(|_| ())
    }

    /// Sets the data that travel with the call.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_user_data(&self, user_data: BTreeMap<String, String>) -> Result<(), Error> {
        self.shared.call(&CallSetUserData { leg: self.leg.id, user_data }).await.map(|_| ())
    }

    /// Answers [`LegStatus::open_channel`]: where this call's media shall go. The port is even.
    ///
    /// # Errors
    /// `MEDIA_ALREADY_SET` when another application was first; any [`Error`].
    pub async fn set_media(&self, address: SocketAddr) -> Result<(), Error> {
        let request = CallSetMedia { leg: self.leg.id, ip: address.ip(), port: RtpPort(address.port()) };
        self.shared.call(&request).await.map(|_| ())
    }
}

/// A call, as far as the session sees it.
#[derive(Clone, Debug)]
pub struct Call {
    shared: Arc<Shared>,
    id: CallId,
}

impl Call {
    pub(super) fn new(shared: Arc<Shared>, id: CallId) -> Self {
        Self { shared, id }
    }

    /// The global call id.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Its legs on open devices, now.
    #[must_use]
    pub fn terminal_connections(&self) -> Vec<TerminalConnection> {
        let legs = self.shared.registry.legs(|leg| leg.call == self.id);
        legs.into_iter().map(|leg| TerminalConnection::new(self.shared.clone(), leg)).collect()
    }

    /// Its connections, now: the addresses of open devices that take part.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let mut by_dn: BTreeMap<Dn, Vec<TerminalConnection>> = BTreeMap::new();
        for leg in self.terminal_connections() {
            by_dn.entry(leg.leg().dn.clone()).or_default().push(leg);
        }
        let id = self.id;
        by_dn.into_iter().map(|(dn, legs)| Connection { call: id, dn, legs }).collect()
    }

    /// Ends all of its legs on open devices. Every leg is tried.
    ///
    /// # Errors
    /// The first [`Error`].
    pub async fn drop_call(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for leg in self.terminal_connections() {
            outcome = outcome.and(leg.drop_leg().await);
        }
        outcome
    }
}

/// A call at an address: on a shared line it has several terminal connections.
#[derive(Clone, Debug)]
pub struct Connection {
    call: CallId,
    dn: Dn,
    legs: Vec<TerminalConnection>,
}

/// JTAPI's states of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionState {
    /// Gone.
    Disconnected,
    /// It could not be made.
    Failed,
    /// The call is on its way out of this address.
    InProgress,
    /// It rings, or waits for the application.
    Alerting,
    /// It talks, or is held.
    Connected,
}

impl Connection {
    /// The call.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// The address's number.
    #[must_use]
    pub fn dn(&self) -> &Dn {
        &self.dn
    }

    /// Its legs.
    #[must_use]
    pub fn terminal_connections(&self) -> &[TerminalConnection] {
        &self.legs
    }

    /// The furthest state of its legs.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let state = |leg: &TerminalConnection| match leg.state() {
            LegState::Dialtone | LegState::Dialing | LegState::Proceeding | LegState::Ringback => {
                ConnectionState::InProgress
            }
            LegState::Offering | LegState::Ringing => ConnectionState::Alerting,
            LegState::Connected | LegState::Held => ConnectionState::Connected,
            LegState::Failed => ConnectionState::Failed,
            LegState::Disconnected => ConnectionState::Disconnected,
        };
        self.legs.iter().map(state).max().unwrap_or(ConnectionState::Disconnected)
    }
}
