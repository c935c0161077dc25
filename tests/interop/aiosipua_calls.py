#!/usr/bin/env python3
"""aiosipua (PyPI `aiosipua`): see calls.py for what it does. tests/interop/run.sh aiosipua

It is signalling over UDP and TCP alone: the voice is the scripts' own.
"""

import asyncio
import importlib.metadata
import os
import sys
import threading

import calls
from aiosipua import Registration, SipDigestAuth, SipUAC, SipUAS, build_sdp, negotiate_sdp
from aiosipua.registration import RegistrationState
from aiosipua.transport import TcpSipTransport, UdpSipTransport
from lab import SOON_S, secret, until
from sound import Voice

LOOP = asyncio.new_event_loop()
PCMU = 0


def within_loop(work):
    """Does this where its objects live."""

    async def alone():
        done = work()
        return await done if asyncio.iscoroutine(done) else done

    return asyncio.run_coroutine_threadsafe(alone(), LOOP).result(SOON_S)


class AioSipUa(calls.Phone):
    """A user agent with a voice."""

    def __init__(self, lab, node, number, tone_hz):
        super().__init__(lab, node, number, tone_hz)
        self.voice = Voice(lab.host, lab.port())
        self.registrar = (lab.host, node.sip)
        self.call, self.dialog, self.over, self.up = None, None, False, False
        self.answered = 0
        self.auth = SipDigestAuth(number, secret(number))

    def register(self, transport):
        within_loop(lambda: self._begin(transport))
        until("aiosipua is registered", lambda: self.registration.state == RegistrationState.REGISTERED)

    async def _begin(self, transport):
        here = (self.lab.host, self.lab.port())
        kind = TcpSipTransport if transport == "tcp" else UdpSipTransport
        self.transport = kind(local_addr=here)
        self.uac = SipUAC(self.transport)
        self.uac.handle_response = self._noting(self.uac.handle_response)
        self.uas = SipUAS(self.transport, uac=self.uac)
        self.uas.on_invite, self.uas.on_reinvite = self._invited, self._offered
        self.uas.on_bye = self.uas.on_cancel = self._ended
        await self.uas.start()
        if transport == "tcp":
            await self.transport.connect(self.registrar)
        self._register(f"sip:{self.number}@{here[0]}:{here[1]};transport={transport}")

    def _noting(self, handle):
        def noted(response, address):
            handle(response, address)
            if response.cseq.method == "INVITE" and response.status_code >= 200:
                self.answered = response.cseq.seq

        return noted

    def _register(self, contact):
        aor = f"sip:{self.number}@{self.lab.host}"
        self.registration = Registration(self.uac, aor, self.registrar, auth=self.auth, contact_uri=contact)
        self.registration.register()

    def unregister(self):
        within_loop(self.registration.unregister)
        until("aiosipua is de-registered", lambda: self.registration.state == RegistrationState.UNREGISTERED)
        within_loop(self.uas.stop)

    def restart(self, _):
        # The same Contact by a registration with another Call-ID.
        within_loop(lambda: self._register(self.registration.contact_uri))
        until("aiosipua is registered", lambda: self.registration.state == RegistrationState.REGISTERED)

    def _invited(self, call):
        self.call, self.over, self.up, self.ours = call, False, False, False
        call.ringing()

    def _ended(self, *_):
        self.over, self.up = True, False
        self.voice.be_silent()

    def _offered(self, call):
        call.accept(self._answer_to(call.sdp_offer))

    def _answer_to(self, offer):
        answer, _ = negotiate_sdp(offer, self.lab.host, self.voice.port, supported_codecs=[PCMU])
        self._speak(offer)
        return answer

    def _speak(self, far):
        self.events_as = next((c.payload_type for c in far.audio.codecs if c.encoding_name == "telephone-event"), 101)
        self.far = far.rtp_address
        self.voice.speak(self.tone_hz, *self.far)

    def _offer(self, direction="sendrecv"):
        offer = build_sdp(self.lab.host, self.voice.port, PCMU, "PCMU")
        attributes = offer.audio.attributes
        attributes.pop("sendrecv", None)
        attributes[direction] = []
        return offer

    def dial(self, number):
        def place():
            self.over, self.up, self.ours = False, False, True
            self.call = self.uac.send_invite(f"sip:{self.number}@{self.lab.host}", f"sip:{number}@{self.lab.host}",
                                             self.registrar, self._offer(), auth=self.auth)
            self.call.on_answer = self._answered
            self.call.on_rejected = self._ended

        within_loop(place)

    def _answered(self, call):
        self.up = True
        self._speak(call.sdp_answer)

    def rings(self):
        until("aiosipua rings", lambda: self.call and not self.ours and not self.over)

    def answer(self):
        within_loop(lambda: self.call.accept(self._answer_to(self.call.sdp_offer)))
        self.up = True

    def refuse(self):
        within_loop(lambda: self.call.reject(486, "Busy Here"))
        self.over = True

    def hang_up(self):
        def end():
            if not self.ours:
                return self.call.hangup()
            return self.call.hangup(self.uac) if self.up else self.call.cancel(self.uac)

        within_loop(end)
        self._ended()

    def is_up(self):
        until("aiosipua's call is up", lambda: self.up)

    def ends(self):
        until("aiosipua's call ends", lambda: self.over)

    def _reinvite(self, direction):
        self.is_up()
        sent = within_loop(lambda: self.uac.send_reinvite(self.call.dialog, self._offer(direction), self.registrar))
        until("aiosipua's offer is answered", lambda: self.answered == sent.cseq.seq)

    def hold(self):
        self._reinvite("sendonly")

    def resume(self):
        self._reinvite("sendrecv")

    def press(self, key):
        self.voice.press(key, *self.far, self.events_as)

    def press_by_info(self, key):
        body = f"Signal={key}\r\nDuration=160\r\n"
        within_loop(lambda: self.uac.send_info(self.call.dialog, body, "application/dtmf-relay", self.registrar))

    def hears(self, hertz):
        self.voice.forget()
        until(f"aiosipua {self.number} hears {hertz} Hz", lambda: self.voice.hears(hertz))

    def clears(self):
        if self.call and not self.over:
            self.hang_up()
        self.call = None


ALONE = "aiosipua: its connection leaves from another address than its Contact names, and it makes none again"
KNOWN = {"is reached over TCP after the node's restart": ALONE, "de-registers over TCP": ALONE}

if __name__ == "__main__":
    threading.Thread(target=LOOP.run_forever, daemon=True).start()
    status = calls.run(f"aiosipua {importlib.metadata.version('aiosipua')}", AioSipUa, ("tcp",), KNOWN)
    sys.stdout.flush()
    os._exit(status)
