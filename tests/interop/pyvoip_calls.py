#!/usr/bin/env python3
"""pyVoIP (PyPI `pyVoIP`): see calls.py for what it does. tests/interop/run.sh pyvoip

It has UDP, PCMU and PCMA, no hold, and sends no digits.
"""

import array
import contextlib
import os
import sys
import threading
import warnings

import calls
import pyVoIP
import sound
from lab import secret, until
from pyVoIP.VoIP import CallState, VoIPPhone
from pyVoIP.VoIP.VoIP import PhoneStatus

# Its own samples are bytes without a sign.
SILENCE, CHUNK = 128, 160
# What it does not notice, it does not notice however long one waits.
ENDS_SOON_S = 4


class PyVoip(calls.Phone):
    """A phone with a thread that writes its tone and one that reads."""

    def __init__(self, lab, node, number, tone_hz):
        super().__init__(lab, node, number, tone_hz)
        self.tone = bytes(SILENCE + (sample >> 8) for sample in sound.sine(tone_hz, 1))
        self.port = lab.port()
        self.phone, self.call, self.heard = None, None, array.array("h")

    def register(self, _):
        # It draws a port for each call, whether it is free or not.
        self.phone = VoIPPhone(self.lab.host, self.node.sip, self.number, secret(self.number), myIP=self.lab.host,
                               sipPort=self.port, rtpPortLow=22_000, rtpPortHigh=30_000, callCallback=self._rings)
        self.phone.start()
        until("pyVoIP is registered", lambda: self.phone.get_status() == PhoneStatus.REGISTERED)

    def unregister(self):
        self.phone.stop()
        self.phone = None

    def restart(self, transport):
        # It can't be ended without a word to the registrar; the Call-ID is another all the same.
        self.unregister()
        self.register(transport)

    def _rings(self, call):
        self.call = call

    def dial(self, number):
        self.call = self.phone.call(number)

    def rings(self):
        until("pyVoIP rings", lambda: self.call and self.call.state == CallState.RINGING)

    def answer(self):
        self.call.answer()
        self._talk(self.call)

    def refuse(self):
        # It says 486, and then fails over media that it has never begun.
        with contextlib.suppress(AttributeError):
            self.call.deny()
        self.phone.calls.clear()
        self.call = None

    def hang_up(self):
        if self.call.state == CallState.DIALING:
            raise calls.Missing("it has no CANCEL")
        self.call.hangup()

    def is_up(self):
        until("pyVoIP's call is up", lambda: self.call.state == CallState.ANSWERED)
        self._talk(self.call)

    def ends(self):
        until("pyVoIP's call ends", lambda: self.call.state == CallState.ENDED, ENDS_SOON_S)

    def _talk(self, call):
        if not getattr(call, "talks", False):
            call.talks, self.heard = True, array.array("h")
            threading.Thread(target=self._speak, args=(call,), daemon=True).start()
            threading.Thread(target=self._listen, args=(call,), daemon=True).start()

    def _speak(self, call):
        at, pace = 0, threading.Event()
        while call.state == CallState.ANSWERED:
            call.write_audio(self.tone[at : at + CHUNK])
            at = (at + CHUNK) % len(self.tone)
            pace.wait(CHUNK / sound.RATE_HZ)

    def _listen(self, call):
        pace = threading.Event()
        while call.state == CallState.ANSWERED:
            self.heard.extend((byte - SILENCE) << 8 for byte in call.read_audio(CHUNK, blocking=False))
            pace.wait(CHUNK / sound.RATE_HZ)

    def hears(self, hertz):
        self.is_up()
        self.heard = array.array("h")
        heard = lambda: sound.frames_with(self.heard[:], hertz) >= sound.ENOUGH_FRAMES
        until(f"pyVoIP {self.number} hears {hertz} Hz", heard)

    def clears(self):
        if self.call and self.call.state == CallState.ANSWERED:
            self.call.hangup()
        self.call = None


KNOWN = {
    "does not answer": "pyVoIP: it answers no CANCEL and goes on ringing",
    "is refused (busy)": "pyVoIP: of refusals it knows 404 and 503 alone",
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    status = calls.run(f"pyVoIP {pyVoIP.__version__}", PyVoip, known=KNOWN)
    sys.stdout.flush()
    # Its threads would go on waiting.
    os._exit(status)
