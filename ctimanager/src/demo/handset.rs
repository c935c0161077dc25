//! A telephone of the demo and its sound.

use super::phone::{Phone, PhoneAccount, PhoneEvent};
use super::{DemoError, PATIENCE};
use client::media::{AudioCodec, MediaStream, Playing, RtpEndpoint, tone};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A telephone that is registered.
pub(super) struct Handset {
    pub(super) phone: Phone,
    pub(super) sound: RtpEndpoint,
}

/// One beep and the silence after it, of those who answer.
const BEEP: Duration = Duration::from_millis(800);
const PAUSE: Duration = Duration::from_millis(200);

impl Handset {
    /// Registers a number at the node; its sound is at its own address of the same host.
    pub(super) async fn plug_in(number: &str, password: &str, node: SocketAddr) -> Result<Self, DemoError> {
        let sound = RtpEndpoint::bind(node.ip()).await.map_err(DemoError::of)?;
        let account = PhoneAccount {
            number: number.into(),
            password: password.into(),
            node,
            media: sound.local_addr(),
        };
        Ok(Self { phone: Phone::register(account).await.map_err(DemoError::of)?, sound })
    }

    /// Waits until the phone's far end is somebody, and connects its sound there.
    pub(super) async fn connect(&mut self) -> Result<(), DemoError> {
        loop {
            match timeout(PATIENCE, self.phone.next()).await {
                Ok(Some(PhoneEvent::Media(far))) => return self.talk_to(far).await,
                Ok(Some(PhoneEvent::Answered)) => {}
                Ok(Some(PhoneEvent::Ended)) | Ok(None) => {
                    return Err(DemoError::of("the call ended too early"));
                }
                Err(_) => return Err(DemoError::of("the phone was not connected in time")),
            }
        }
    }

    /// Waits for the end of its call.
    pub(super) async fn ended(&mut self) -> Result<(), DemoError> {
        loop {
            match timeout(PATIENCE, self.phone.next()).await {
                Ok(Some(PhoneEvent::Ended)) => return self.sound.stop().await.map_err(DemoError::of),
                Ok(Some(PhoneEvent::Answered | PhoneEvent::Media(_))) => {}
                Ok(None) | Err(_) => return Err(DemoError::of("the call did not end")),
            }
        }
    }

    async fn talk_to(&self, far: SocketAddr) -> Result<(), DemoError> {
        let stream = |address| MediaStream {
            address,
            codec: AudioCodec::Pcmu,
            payload_type: 0,
            packet_ms: 20,
            dtmf_payload_type: Some(101),
        };
        self.sound.start_output(stream(far)).await.map_err(DemoError::of)?;
        self.sound.start_input(stream(self.sound.local_addr())).await.map_err(DemoError::of)
    }

    /// Answers every call, one at a time, and beeps to it until it ends; `tell` hears of it. Until the phone is off.
    pub(super) async fn stay(mut self, hz: f64, tell: impl Fn(String)) -> Result<(), DemoError> {
        let beep: Arc<[i16]> = [tone::sine(hz, BEEP), tone::silence(PAUSE)].concat().into();
        let mut beeping: Option<Playing> = None;
        loop {
            let beeped = async {
                match &mut beeping {
                    Some(playing) => playing.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                event = self.phone.next() => match event {
                    Some(PhoneEvent::Answered) => tell(format!("answers and beeps, {hz:.0} Hz")),
                    Some(PhoneEvent::Media(far)) => {
                        self.talk_to(far).await?;
                        if beeping.is_none() {
                            beeping = Some(self.sound.play(beep.clone()).await);
                        }
                    }
                    Some(PhoneEvent::Ended) => {
                        beeping = None;
                        self.sound.stop().await.map_err(DemoError::of)?;
                    }
                    None => return Ok(()),
                },
                _ = beeped => beeping = Some(self.sound.play(beep.clone()).await),
            }
        }
    }
}
