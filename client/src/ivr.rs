//! What makes an IVR short: a call with its own RTP endpoint, for route points and ports opened with dynamic media.

use crate::media::codec::UnsupportedCodec;
use crate::media::endpoint::{
    Collected, EndpointClosed, MediaStream, PlayEnd, Playing, Recording, SendDigitsError,
};
use crate::media::{AudioCodec, RtpEndpoint};
use crate::provider::{Error, Events, LegStatus, MakeCall, Observed, Terminal, TerminalConnection};
use protocol::wire::{LegState, StartedStream};
use protocol::{Event, Symbol};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long one that hasn't got a call lets the one that has it answer the server's further questions first.
const STANDBY_PATIENCE: Duration = Duration::from_millis(500);

/// Why a call could not be answered, or lost its media.
#[derive(Debug, thiserror::Error)]
pub enum IvrError {
    /// A request failed.
    #[error(transparent)]
    Cti(#[from] Error),
    /// No RTP socket was to be had.
    #[error("RTP: {0}")]
    Socket(#[from] io::Error),
    /// The endpoint ended.
    #[error(transparent)]
    Endpoint(#[from] EndpointClosed),
    /// The server chose a codec that was not offered.
    #[error(transparent)]
    Codec(#[from] UnsupportedCodec),
    /// The caller hung up, or the session was lost, before the call was connected.
    #[error("the call was gone before it was connected")]
    Gone,
}

/// An answered call with its media. Dropping it closes the endpoint; it does not hang up.
#[derive(Debug)]
pub struct IvrCall {
    leg: TerminalConnection,
    endpoint: Arc<RtpEndpoint>,
    follower: JoinHandle<()>,
}

impl Drop for IvrCall {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl IvrCall {
    /// Answers an offered call: binds an endpoint at `ip`, gives its address when the server asks for one, and waits
    /// until the call is connected and media flow.
    ///
    /// Where several applications have the device open, the one whose address is taken has the call. The others wait here,
    /// and have it half a second after that one has gone and the server has asked again; [`IvrError::Gone`] when the call
    /// ends before.
    ///
    /// # Errors
    /// [`IvrError`]; the call is then as the server has it.
    pub async fn answer(leg: TerminalConnection, ip: IpAddr) -> Result<Self, IvrError> {
        let endpoint = Arc::new(RtpEndpoint::bind(ip).await?);
        let events = leg.events();
        let set_media = give_address(&leg, endpoint.local_addr());
        let answer = async {
            match leg.answer().await {
                Err(error) if error.symbol() == Some(Symbol::IllegalCallState) => Ok(()), // another has answered
                answered => answered.map_err(IvrError::from),
            }
        };
        // Whether the answer's reply or the question for the media comes first is the server's affair.
        let ((), channels_answered) = tokio::try_join!(answer, set_media)?;
        Self::followed(leg, events, endpoint, channels_answered).await
    }

    /// Calls a number from a port or route point: binds an endpoint at `ip`, gives its address when the server asks for
    /// one (before the destination is called, or when it has answered), and waits until the call is connected and media
    /// flow. What the far end plays before it answers is heard by nobody.
    ///
    /// # Errors
    /// [`IvrError`]; [`IvrError::Gone`] when the destination is busy, refuses or doesn't answer.
    pub async fn make(
        terminal: &Terminal,
        destination: &str,
        how: MakeCall,
        ip: IpAddr,
    ) -> Result<Self, IvrError> {
        let endpoint = Arc::new(RtpEndpoint::bind(ip).await?);
        let leg = terminal.make_call(destination, how).await?;
        let events = leg.events();
        Self::followed(leg, events, endpoint, 0).await
    }

    async fn followed(
        leg: TerminalConnection,
        events: Events<Arc<Event>>,
        endpoint: Arc<RtpEndpoint>,
        channels_answered: u64,
    ) -> Result<Self, IvrError> {
        let mirror = Mirror {
            leg: leg.clone(),
            endpoint: endpoint.clone(),
            channels_answered,
            input: None,
            output: None,
        };
        // From here on the server's questions are answered, whatever comes before the first word.
        let (talking, talks) = oneshot::channel();
        let follower = tokio::spawn(follow(events, mirror, talking));
        let call = Self { leg, endpoint, follower };
        talks.await.map_err(|_| IvrError::Gone)??;
        Ok(call)
    }

    /// The leg, for everything that is not said here.
    #[must_use]
    pub fn leg(&self) -> &TerminalConnection {
        &self.leg
    }

    /// The endpoint, for everything that is not said here.
    #[must_use]
    pub fn endpoint(&self) -> &RtpEndpoint {
        &self.endpoint
    }

    /// Plays; see [`RtpEndpoint::play`].
    pub async fn play(&self, samples: impl Into<Arc<[i16]>>) -> Playing {
        self.endpoint.play(samples).await
    }

    /// Plays to its end, or until the call is gone.
    pub async fn play_all(&self, samples: impl Into<Arc<[i16]>>) -> PlayEnd {
        let playing = self.endpoint.play(samples).await;
        tokio::select! {
            end = playing => end,
            () = self.leg.gone() => PlayEnd::Closed,
        }
    }

    /// Plays a prompt and collects digits; the first digit stops the prompt. The time for it counts from the prompt's end.
    /// Digits that were pressed before count, as impatient callers expect; [`RtpEndpoint::flush_digits`] forgets them.
    /// `None` when the call is gone.
    pub async fn ask(
        &self,
        prompt: impl Into<Arc<[i16]>>,
        count: usize,
        first: Duration,
        next: Duration,
        terminator: Option<char>,
    ) -> Option<Collected> {
        let playing = self.endpoint.play(prompt).await;
        let asking = async {
            let early = tokio::select! {
                digit = self.endpoint.next_digit() => digit,
                _ = playing => None,
            };
            // The digit that interrupted goes first, in the place that it had.
            self.endpoint.collect_after(early, count, first, next, terminator).await
        };
        tokio::select! {
            collected = asking => Some(collected),
            () = self.leg.gone() => None,
        }
    }

    /// Collects digits; see [`RtpEndpoint::collect`]. `None` when the call is gone.
    pub async fn collect(
        &self,
        count: usize,
        first: Duration,
        next: Duration,
        terminator: Option<char>,
    ) -> Option<Collected> {
        tokio::select! {
            collected = self.endpoint.collect(count, first, next, terminator) => Some(collected),
            () = self.leg.gone() => None,
        }
    }

    /// Sends digits to the far end.
    ///
    /// # Errors
    /// [`SendDigitsError`]
    pub async fn send_digits(&self, digits: &str) -> Result<(), SendDigitsError> {
        self.endpoint.send_digits(digits).await
    }

    /// Records; see [`RtpEndpoint::record`].
    pub async fn record(&self) -> Recording {
        self.endpoint.record().await
    }

    /// Sends the caller elsewhere; see [`TerminalConnection::redirect`].
    ///
    /// # Errors
    /// As there.
    pub async fn redirect(&self, destination: &str) -> Result<(), Error> {
        self.leg.redirect(destination).await
    }

    /// Hangs up.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn hang_up(&self) -> Result<(), Error> {
        self.leg.drop_leg().await
    }
}

/// Gives the address whenever the server asks, until it is taken; which of its questions that was.
async fn give_address(leg: &TerminalConnection, address: SocketAddr) -> Result<u64, IvrError> {
    let mut asked = 0;
    loop {
        let question = |status: &LegStatus| status.open_channel.is_some() && status.channels_asked > asked;
        let again = asked > 0;
        asked = leg.wait_for(question).await.ok_or(IvrError::Gone)?.channels_asked;
        if again {
            // Perhaps its caller was only on hold: whoever has the call goes first.
            tokio::time::sleep(STANDBY_PATIENCE).await;
        }
        match leg.set_media(address).await {
            Ok(()) => return Ok(asked),
            Err(error) if error.symbol() == Some(Symbol::MediaAlreadySet) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps the endpoint's streams as the server tells them, and adds the digits that it saw. Says once when the call is
/// connected and media flow, or why they never will.
async fn follow(
    mut events: Events<Arc<Event>>,
    mut mirror: Mirror,
    talking: oneshot::Sender<Result<(), IvrError>>,
) {
    let mut changes = mirror.leg.changes();
    let mut talking = Some(talking);
    loop {
        let status = changes.borrow_and_update().clone();
        let followed = mirror.follow(&status).await;
        if let Err(error) = &followed {
            tracing::warn!(leg = %mirror.leg.id(), %error, "the media of a call can't be followed");
        }
        let failed = followed.is_err();
        if (failed || talks(&status))
            && let Some(waits) = talking.take()
        {
            // Whoever waits for this may have given up.
            let _ = waits.send(followed);
        }
        if failed {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            event = events.next() => match event {
                Some(Observed::Event(event)) => mirror.digit(&event),
                Some(Observed::Lagged(missed)) => tracing::warn!(missed, "digits of a call may be lost"),
                None => return,
            },
        }
    }
}

fn talks(status: &LegStatus) -> bool {
    status.leg.state == LegState::Connected && (status.output.is_some() || status.input.is_some())
}

/// The endpoint's streams as they were last set, and which questions for its address were answered.
struct Mirror {
    leg: TerminalConnection,
    channels_answered: u64,
    endpoint: Arc<RtpEndpoint>,
    input: Option<StartedStream>,
    output: Option<StartedStream>,
}

impl Mirror {
    async fn follow(&mut self, status: &LegStatus) -> Result<(), IvrError> {
        // Output first: it tells whose packets the input may take.
        if self.output != status.output {
            self.output.clone_from(&status.output);
            match &self.output {
                Some(started) => self.endpoint.start_output(stream(started)?).await?,
                None => self.endpoint.stop_output().await?,
            }
        }
        if self.input != status.input {
            self.input.clone_from(&status.input);
            match &self.input {
                Some(started) => self.endpoint.start_input(stream(started)?).await?,
                None => self.endpoint.stop_input().await?,
            }
        }
        if status.channels_asked > self.channels_answered && !status.is_over() {
            self.channels_answered = status.channels_asked;
            // The question may have lapsed meanwhile: the caller is on hold again, and the next one will come.
            if let Err(error) = self.leg.set_media(self.endpoint.local_addr()).await {
                tracing::debug!(leg = %self.leg.id(), %error, "an address was not taken");
            }
        }
        Ok(())
    }

    fn digit(&self, event: &Event) {
        if let Event::CallDtmf { digit, .. } = event
            && !self.endpoint.push_digit(*digit)
        {
            tracing::warn!("nobody collects digits: the queue is full");
        }
    }
}

fn stream(started: &StartedStream) -> Result<MediaStream, UnsupportedCodec> {
    Ok(MediaStream {
        address: SocketAddr::new(started.ip, started.port),
        codec: AudioCodec::from_rtp_name(&started.codec)?,
        payload_type: started.payload_type,
        packet_ms: started.packet_ms,
        dtmf_payload_type: started.dtmf_payload_type,
    })
}
