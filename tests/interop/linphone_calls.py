#!/usr/bin/env python3
"""linphonec (Debian `linphone-cli`): see calls.py for what it does. tests/interop/run.sh linphone"""

import signal
import subprocess
import sys

import calls
import sound
from lab import secret, until

RATE_HZ = 8_000


class Linphone(calls.Phone):
    """Driven by the lines of its prompt; what happens is read from its own log."""

    def __init__(self, lab, node, number, tone_hz):
        super().__init__(lab, node, number, tone_hz)
        self.folder = lab.folder / f"linphone-{number}"
        (self.folder / ".local/share/linphone").mkdir(parents=True)
        sound.write_wav(self.folder / "tone.wav", tone_hz, 120)
        self.story, self.heard = self.folder / "sip.log", self.folder / "heard.wav"
        self.ports = [lab.port() for _ in range(2)]
        self.program, self.seen = None, 0

    def _start(self):
        host, (sip, rtp) = self.lab.host, self.ports
        # A server may ask a phone for a certificate, and the node does; a phone without one asks at its prompt what to do.
        certificate, key = self.node.certificate_for_phone()
        # A key goes both ways, as RTP event and as INFO: the steps look at one of them.
        (self.folder / "rc").write_text(
            f"[sip]\nsip_port={sip}\nsip_tcp_port={sip}\nsip_tls_port={sip + 1}\nuse_ipv6=0\nguess_hostname=0\n"
            f"bind_address={host}\nmedia_encryption=none\nuse_info=1\nuse_rfc2833=1\n"
            # Its TLS library compares no addresses with those of a certificate. After a lost connection it waits for a minute.
            f"root_ca={self.node.ca}\nclient_cert_chain={certificate}\nclient_cert_key={key}\nverify_server_cn=0\nrefresher_retry_after=1000\n"
            "[audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n[misc]\nadd_missing_audio_codecs=0\n"
            f"[rtp]\naudio_rtp_port={rtp}\nbind_address={host}\n[net]\nfirewall_policy=none\n"
        )
        self.story.unlink(missing_ok=True)
        self.seen = 0
        # It does its work while it waits at a terminal's prompt, so it gets a terminal.
        words = ["script", "-qfec", "exec linphonec -c rc -d 4 -l sip.log", "/dev/null"]
        self.program = self.lab.start(f"linphonec-{self.number}", words, cwd=self.folder,
                                      env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"})
        self.program.says("linphonec>")
        for line in ("soundcard use files", "play tone.wav", "record heard.wav"):
            self.program.say(line)

    def _told(self):
        return self.story.read_text(errors="replace") if self.story.exists() else ""

    def comes_to(self, *states):
        """The next of these states; what was before it counts no more."""

        def found():
            told = self._told()
            ends = [at + len(state) for state in states if (at := told.find(f"to {state}", self.seen)) >= 0]
            if ends:
                self.seen = min(ends)
            return ends

        until(f"linphonec {self.number} comes to {' or '.join(states)}", found)

    def register(self, transport):
        if self.program is None:
            self._start()
        self.registrar = f"{self.node.registrar(transport)};transport={transport}"
        self.program.say(f"register sip:{self.number}@{self.lab.host} sip:{self.registrar} {secret(self.number)}")
        self.comes_to("[LinphoneRegistrationOk]")

    def unregister(self):
        self.program.say("unregister")
        self.comes_to("[LinphoneRegistrationCleared]")

    def restart(self, transport):
        self.program.end(signal.SIGKILL)
        self.program = None
        self.register(transport)

    def dial(self, number):
        # What it said of calls before counts no more.
        self.seen = len(self._told())
        self.program.say(f"call sip:{number}@{self.registrar}")

    def rings(self):
        self.comes_to("LinphoneCallIncomingReceived")

    def answer(self):
        self.program.say("answer")

    def refuse(self):
        self.program.say("terminate")

    hang_up = refuse

    def is_up(self):
        self.comes_to("LinphoneCallStreamsRunning")

    def ends(self):
        self.comes_to("LinphoneCallEnd", "LinphoneCallError", "LinphoneCallReleased")

    def hold(self):
        self.program.say("pause")
        self.comes_to("LinphoneCallPaused")

    def resume(self):
        self.program.say("resume")
        self.comes_to("LinphoneCallStreamsRunning")

    def press(self, key):
        self.program.say(key)

    press_by_info = press

    def hears(self, hertz):
        before = self._frames(hertz)
        enough = before + sound.ENOUGH_FRAMES
        until(f"linphonec {self.number} hears {hertz} Hz", lambda: self._frames(hertz) >= enough)

    def _frames(self, hertz):
        samples, _ = sound.wav_samples(self.heard, RATE_HZ)
        return sound.frames_with(samples, hertz)

    def clears(self):
        if self.program:
            self.program.say("terminate all")


def version():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "linphone-cli"], capture_output=True, text=True)
    return done.stdout or "of another package"


if __name__ == "__main__":
    sys.exit(calls.run(f"linphone {version()}", Linphone, ("tcp", "tls")))
