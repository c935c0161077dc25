//! The demo's telephones: SIP user agents of `rsipstack`, so that what answers the node is not the node's own code.
//!
//! One call at a time: it registers with digest and stays registered, dials, answers what rings, is busy for the next one,
//! follows re-INVITEs, and hangs up. Its media address is its owner's; what the far end says of its own is reported.

use rsipstack::EndpointBuilder;
use rsipstack::dialog::DialogId;
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, DialogStateSender};
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::dialog::registration::{Registration, backoff_interval, refresh_interval};
use rsipstack::sip::{Header, Method, StatusCode, Uri};
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::{Endpoint, TransactionReceiver};
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What goes wrong with a phone, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("the phone {number}: {what}")]
pub struct PhoneError {
    number: String,
    what: String,
}

/// What happens at the phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhoneEvent {
    /// Somebody calls; it answers by itself.
    Answered,
    /// The far end's media is here from now on.
    Media(SocketAddr),
    /// The call has ended.
    Ended,
}

/// Who the phone is and where its node lives.
#[derive(Clone, Debug)]
pub struct PhoneAccount {
    /// Its number, which is its digest user too.
    pub number: String,
    /// Its digest password.
    pub password: String,
    /// The node's SIP address, UDP.
    pub node: SocketAddr,
    /// Where it wants its RTP.
    pub media: SocketAddr,
}

/// A phone that is registered.
pub struct Phone {
    account: PhoneAccount,
    contact: Uri,
    layer: Arc<DialogLayer>,
    states: DialogStateSender,
    events: mpsc::Receiver<PhoneEvent>,
    report: mpsc::Sender<PhoneEvent>,
    call: Option<InviteDialog>,
    _running: DropGuard,
}

/// Events that wait for their reader; a phone in a demo has a handful.
const EVENTS: usize = 64;

impl Phone {
    /// Binds a UDP port on loopback and registers.
    ///
    /// # Errors
    /// When the port can't be bound, or the registrar refuses.
    pub async fn register(account: PhoneAccount) -> Result<Phone, PhoneError> {
        let error = |what: String| PhoneError { number: account.number.clone(), what };
        let token = CancellationToken::new();
        let transports = TransportLayer::new(token.clone());
        let local = SocketAddr::new(account.media.ip(), 0);
        let socket = UdpConnection::create_connection(local, None, Some(token.child_token()))
            .await
            .map_err(|e| error(e.to_string()))?;
        transports.add_transport(socket.into());
        let endpoint = EndpointBuilder::new()
            .with_user_agent("ctimanager-demo-phone")
            .with_cancel_token(token.clone())
            .with_transport_layer(transports)
            .build();
        let contact = contact(&endpoint, &account.number).map_err(&error)?;
        let layer = Arc::new(DialogLayer::new(endpoint.inner.clone()));
        let (states, state_receiver) = layer.new_dialog_state_channel();
        let (report, events) = mpsc::channel(EVENTS);
        let incoming = endpoint.incoming_transactions().map_err(|e| error(e.to_string()))?;
        let inner = endpoint.inner.clone();
        tokio::spawn(async move { endpoint.serve().await });
        tokio::spawn(answer_all(layer.clone(), incoming, states.clone(), contact.clone()));
        tokio::spawn(follow(layer.clone(), state_receiver, sdp(account.media), report.clone()));
        let mut registration = Registration::new(inner, Some(account.credential()));
        let node = uri(&format!("sip:{}", account.node)).map_err(&error)?;
        let response = registration.register(node, Some(EXPIRES)).await.map_err(|e| error(e.to_string()))?;
        if response.status_code != StatusCode::OK {
            return Err(error(format!("REGISTER was answered with {}", response.status_code)));
        }
        tokio::spawn(stay_registered(registration, account.node, token.child_token()));
        let running = token.drop_guard();
        Ok(Phone { account, contact, layer, states, events, report, call: None, _running: running })
    }

    /// Dials and waits until the call is answered.
    ///
    /// # Errors
    /// When the call is refused.
    pub async fn dial(&mut self, number: &str) -> Result<(), PhoneError> {
        let error = |what: String| PhoneError { number: self.account.number.clone(), what };
        let option = InviteOption {
            caller: uri(&format!("sip:{}@{}", self.account.number, self.account.node)).map_err(error)?,
            callee: uri(&format!("sip:{number}@{}", self.account.node)).map_err(error)?,
            contact: self.contact.clone(),
            content_type: Some("application/sdp".into()),
            offer: Some(sdp(self.account.media).into_bytes()),
            credential: Some(self.account.credential()),
            ..Default::default()
        };
        let (dialog, response) =
            self.layer.do_invite(option, self.states.clone()).await.map_err(|e| error(e.to_string()))?;
        let Some(response) = response.filter(|r| r.status_code == StatusCode::OK) else {
            return Err(error(format!("{number} did not answer")));
        };
        if let Some(far) = media_of(&response.body) {
            self.report.send(PhoneEvent::Media(far)).await.map_err(|e| error(e.to_string()))?;
        }
        self.call = Some(dialog);
        Ok(())
    }

    /// The next thing that happens; `None` once the phone is off.
    pub async fn next(&mut self) -> Option<PhoneEvent> {
        self.events.recv().await
    }

    /// Hangs up the call that it placed; nothing when there is none.
    pub async fn hang_up(&mut self) {
        if let Some(call) = self.call.take() {
            // A call that the far end has just ended has nothing left to hang up.
            let _ = call.bye_with_headers(None).await;
        }
    }
}

/// How long it asks to be registered, in seconds; the registrar may shorten it.
const EXPIRES: u32 = 300;

/// Registers again in time, until the phone is off.
async fn stay_registered(mut registration: Registration, node: SocketAddr, off: CancellationToken) {
    let mut failures = 0;
    loop {
        let wait = match failures {
            0 => refresh_interval(registration.expires()),
            failures => backoff_interval(failures),
        };
        tokio::select! {
            () = off.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let Ok(node) = uri(&format!("sip:{node}")) else { return };
        let answer = registration.register(node, Some(EXPIRES)).await;
        let good = answer.is_ok_and(|response| response.status_code == StatusCode::OK);
        failures = if good { 0 } else { failures + 1 };
    }
}

impl PhoneAccount {
    fn credential(&self) -> Credential {
        Credential {
            username: self.number.clone(),
            password: self.password.clone(),
            realm: None,
            auth_username: None,
        }
    }
}

fn uri(text: &str) -> Result<Uri, String> {
    Uri::try_from(text).map_err(|e| e.to_string())
}

fn contact(endpoint: &Endpoint, number: &str) -> Result<Uri, String> {
    let address = endpoint.get_addrs().first().ok_or("has no address")?.addr.to_string();
    uri(&format!("sip:{number}@{address}"))
}

async fn answer_all(
    layer: Arc<DialogLayer>,
    mut incoming: TransactionReceiver,
    states: DialogStateSender,
    contact: Uri,
) {
    while let Some(mut transaction) = incoming.recv().await {
        let known = layer.match_dialog(&transaction);
        if let Some(mut dialog) = known {
            tokio::spawn(async move { dialog.handle(&mut transaction).await });
        } else if transaction.original.method == Method::Invite {
            let made =
                layer.get_or_create_server_invite(&transaction, states.clone(), None, Some(contact.clone()));
            if let Ok(mut dialog) = made {
                tokio::spawn(async move { dialog.handle(&mut transaction).await });
            }
        } else {
            tokio::spawn(async move { transaction.reply(StatusCode::CallTransactionDoesNotExist).await });
        }
    }
}

async fn follow(
    layer: Arc<DialogLayer>,
    mut states: DialogStateReceiver,
    sdp: String,
    report: mpsc::Sender<PhoneEvent>,
) {
    // The Call-ID of the call that it is in.
    let mut current: Option<String> = None;
    while let Some(state) = states.recv().await {
        let told = match state {
            DialogState::Calling(id) => match &current {
                Some(call) if *call != id.call_id => refuse(&layer, &id),
                Some(_) | None => {
                    current = Some(id.call_id.clone());
                    answer(&layer, &id, &sdp)
                }
            },
            DialogState::Updated(_, request, transaction) => {
                let body = Some(sdp.clone().into_bytes());
                let headers = Some(vec![Header::ContentType("application/sdp".into())]);
                // The transaction may have timed out meanwhile; then the far end asks again.
                let _ = transaction.respond(StatusCode::OK, headers, body).await;
                media_of(&request.body).map(PhoneEvent::Media).into_iter().collect()
            }
            DialogState::Terminated(id, _) => {
                layer.remove_dialog(&id);
                let own = current.take_if(|call| *call == id.call_id);
                own.map(|_| PhoneEvent::Ended).into_iter().collect()
            }
            _ => Vec::new(),
        };
        for event in told {
            if report.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// One call at a time.
fn refuse(layer: &DialogLayer, id: &DialogId) -> Vec<PhoneEvent> {
    if let Some(rsipstack::dialog::dialog::Dialog::Invite(dialog)) = layer.get_dialog(id)
        && dialog.role() == TransactionRole::Server
    {
        // The caller may have given up meanwhile.
        let _ = dialog.reject(Some(StatusCode::BusyHere), None);
    }
    Vec::new()
}

fn answer(layer: &DialogLayer, id: &DialogId, sdp: &str) -> Vec<PhoneEvent> {
    let Some(rsipstack::dialog::dialog::Dialog::Invite(dialog)) = layer.get_dialog(id) else {
        return Vec::new();
    };
    // A call of our own is in this state, too.
    if dialog.role() != TransactionRole::Server {
        return Vec::new();
    }
    let offered = media_of(&dialog.initial_request().body);
    let headers = Some(vec![Header::ContentType("application/sdp".into())]);
    match dialog.accept(headers, Some(sdp.as_bytes().to_vec())) {
        Ok(()) => std::iter::once(PhoneEvent::Answered).chain(offered.map(PhoneEvent::Media)).collect(),
        Err(_) => Vec::new(),
    }
}

/// What the phone offers and answers: G.711 µ-law and digits at its one address.
fn sdp(media: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
        ip = media.ip(),
        port = media.port()
    )
}

/// Where the description wants its audio.
fn media_of(body: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(body).ok()?;
    let ip = text.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim().parse().ok()?;
    let port = text
        .lines()
        .find_map(|l| l.strip_prefix("m=audio "))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(SocketAddr::new(ip, port))
}
