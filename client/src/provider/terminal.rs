//! Terminals (devices) and addresses (their lines).

use super::call::TerminalConnection;
use super::driver::Adopt;
use super::observer::Events;
use super::registry::LegRef;
use super::{Error, Shared};
use device_model::media::{Codec, MediaTermination};
use device_model::{DeviceName, Dn};
use protocol::Event;
use protocol::methods::{
    CallMake, CallPickup, CallUnpark, DeviceClose, DeviceOpen, LineSetAutoAccept, LineSetForward,
    LineSetMessageWaiting, Nullable,
};
use protocol::wire::{Device, Line};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A device: phone, CTI port or route point.
#[derive(Clone, Debug)]
pub struct Terminal {
    shared: Arc<Shared>,
    name: DeviceName,
}

/// The new calls of a terminal, in their order. It ends when the provider is shut down.
#[derive(Debug)]
pub struct Calls {
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<LegRef>,
}

impl Calls {
    /// The next call that waits for an answer: offered at a port or route point, ringing at a phone. Cancel-safe.
    pub async fn next(&mut self) -> Option<TerminalConnection> {
        let leg = self.waiting.recv().await?;
        Some(TerminalConnection::new(self.shared.clone(), leg))
    }
}

/// A call to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MakeCall {
    /// From which line; `None` = the first.
    pub dn: Option<Dn>,
    /// Shown in place of the line's number; needs Allow Calling Number Modification.
    pub calling_number: Option<Dn>,
    /// Travels with the call.
    pub user_data: BTreeMap<String, String>,
}

impl Terminal {
    pub(super) fn new(shared: Arc<Shared>, name: DeviceName) -> Self {
        Self { shared, name }
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &DeviceName {
        &self.name
    }

    /// Opens it: its events are told from now on, and its calls obey. Gives the calls already there.
    /// After a restart of the session it is opened again by itself.
    ///
    /// # Errors
    /// Any [`Error`]; the symbols of protocol §3 for devices and media.
    pub async fn open(&self, media: Option<MediaTermination>) -> Result<Vec<TerminalConnection>, Error> {
        let adopt = Adopt::Opened { device: self.name.clone(), media: media.clone() };
        let open = DeviceOpen { device: self.name.clone(), media, cursor: None, limit: None };
        let (_, legs) = self.shared.request(&open, adopt).await?;
        Ok(legs.into_iter().map(|leg| TerminalConnection::new(self.shared.clone(), leg)).collect())
    }

    /// Opens a port or route point whose calls get a media address each: the way of [`crate::ivr::IvrCall`].
    ///
    /// # Errors
    /// As [`Terminal::open`].
    pub async fn open_with_dynamic_media(&self) -> Result<Vec<TerminalConnection>, Error> {
        let codecs = vec![Codec::Pcmu, Codec::Pcma];
        self.open(Some(MediaTermination::Dynamic { codecs, srtp: Vec::new() })).await
    }

    /// Closes it for this session.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn close(&self) -> Result<(), Error> {
        let adopt = Adopt::Closed(self.name.clone());
        self.shared.request(&DeviceClose { device: self.name.clone() }, adopt).await.map(|_| ())
    }

    /// The device as last told; `None` before it was opened.
    #[must_use]
    pub fn device(&self) -> Option<Device> {
        self.shared.registry.device(&self.name)
    }

    /// Its lines; none before it was opened.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let lines = self.device().map(|d| d.lines).unwrap_or_default();
        lines.into_iter().map(|line| self.address(line.dn.as_str())).collect()
    }

    /// One of its lines.
    #[must_use]
    pub fn address(&self, dn: &str) -> Address {
        Address { shared: self.shared.clone(), device: self.name.clone(), dn: dn.into() }
    }

    /// Its new calls from now on. To miss none, ask before [`Terminal::open`]: unanswered calls that are there already
    /// come, too.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls { shared: self.shared.clone(), waiting: self.shared.registry.calls(&self.name) }
    }

    /// Everything about it, its lines and their legs from now on.
    #[must_use]
    pub fn events(&self) -> Events<Arc<Event>> {
        Events::new(self.shared.registry.observe_terminal(&self.name))
    }

    /// Its legs now.
    #[must_use]
    pub fn terminal_connections(&self) -> Vec<TerminalConnection> {
        let legs = self.shared.registry.legs(|leg| leg.device == self.name);
        legs.into_iter().map(|leg| TerminalConnection::new(self.shared.clone(), leg)).collect()
    }

    /// Makes a call. Whether the destination can be reached shows in the leg's events.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn make_call(&self, destination: &str, how: MakeCall) -> Result<TerminalConnection, Error> {
        let request = CallMake {
            device: self.name.clone(),
            dn: how.dn.clone(),
            destination: destination.into(),
            calling_number: how.calling_number,
            user_data: (!how.user_data.is_empty()).then_some(how.user_data),
        };
        self.new_call(&request, how.dn).await
    }

    /// Takes a parked call.
    ///
    /// *Planned*: no node of this version does it, the answer is `OPERATION_NOT_SUPPORTED`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn unpark(&self, park_number: &str, dn: Option<Dn>) -> Result<TerminalConnection, Error> {
        let request =
            CallUnpark { device: self.name.clone(), dn: dn.clone(), park_number: park_number.into() };
        self.new_call(&request, dn).await
    }

    /// Takes a call that rings elsewhere.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn pick_up(&self, ringing_dn: &str, dn: Option<Dn>) -> Result<TerminalConnection, Error> {
        let request = CallPickup { device: self.name.clone(), dn: dn.clone(), ringing_dn: ringing_dn.into() };
        self.new_call(&request, dn).await
    }

    async fn new_call<C: protocol::Call>(
        &self,
        request: &C,
        dn: Option<Dn>,
    ) -> Result<TerminalConnection, Error> {
        let adopt = Adopt::NewCall { device: self.name.clone(), dn };
        let (_, mut legs) = self.shared.request(request, adopt).await?;
        let leg = legs.pop().ok_or_else(|| Error::BadAnswer("a new call without a leg".to_owned()))?;
        Ok(TerminalConnection::new(self.shared.clone(), leg))
    }
}

/// A line of a device.
#[derive(Clone, Debug)]
pub struct Address {
    shared: Arc<Shared>,
    device: DeviceName,
    dn: Dn,
}

impl Address {
    /// Its number.
    #[must_use]
    pub fn dn(&self) -> &Dn {
        &self.dn
    }

    /// Its terminal.
    #[must_use]
    pub fn terminal(&self) -> Terminal {
        Terminal::new(self.shared.clone(), self.device.clone())
    }

    /// The line as last told; `None` before its terminal was opened.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.terminal().device()?.lines.into_iter().find(|line| line.dn == self.dn)
    }

    /// Sets Forward All, or unsets it with `None`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_forward(&self, destination: Option<&str>) -> Result<(), Error> {
        let (device, dn) = (self.device.clone(), self.dn.clone());
        let destination = Nullable(destination.map(Dn::from));
        self.shared.call(&LineSetForward { device, dn, destination }).await.map(|_| ())
    }

    /// Lets a port's or route point's line accept calls by itself, or not.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_auto_accept(&self, on: bool) -> Result<(), Error> {
        let (device, dn) = (self.device.clone(), self.dn.clone());
        self.shared.call(&LineSetAutoAccept { device, dn, on }).await.map(|_| ())
    }

    /// Lights the message lamp of its number, or not: at all phones with the number. The device need not be open.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_message_waiting(&self, on: bool) -> Result<(), Error> {
        self.shared.call(&LineSetMessageWaiting { dn: self.dn.clone(), on }).await.map(|_| ())
    }

    /// Makes a call from this line.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn make_call(&self, destination: &str) -> Result<TerminalConnection, Error> {
        let how = MakeCall { dn: Some(self.dn.clone()), ..MakeCall::default() };
        self.terminal().make_call(destination, how).await
    }

    /// Its legs now.
    #[must_use]
    pub fn terminal_connections(&self) -> Vec<TerminalConnection> {
        let legs = self.shared.registry.legs(|leg| leg.device == self.device && leg.dn == self.dn);
        legs.into_iter().map(|leg| TerminalConnection::new(self.shared.clone(), leg)).collect()
    }
}
