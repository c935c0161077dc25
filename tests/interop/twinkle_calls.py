#!/usr/bin/env python3
"""twinkle-console (Debian `twinkle-console`): see calls.py for what it does. tests/interop/run.sh twinkle

What it plays is read from the file that its ALSA device writes. Without a sound card nothing gives its microphone a pace: its own
voice is not judged.
"""

import array
import signal
import subprocess
import sys

import calls
import sound
from lab import secret, until

ALSA = """pcm.speaker {{
  type file
  slave.pcm null
  file "{heard}"
  format raw
}}
"""
SYSTEM = """dev_ringtone=alsa:null
dev_speaker=alsa:speaker
dev_mic=alsa:null
validate_audio_dev=no
sip_port={sip}
rtp_port={rtp}
"""
USER = """user_name={number}
user_domain={host}:{sip}
auth_name={number}
auth_pass={password}
codecs=g711u
registrar={host}:{sip}
register_at_startup=no
dtmf_transport={dtmf}
sip_transport={transport}
"""


class Twinkle(calls.Phone):
    """Driven by the lines of its prompt; what happens is what it prints."""

    is_heard = False

    def __init__(self, lab, node, number, tone_hz):
        super().__init__(lab, node, number, tone_hz)
        self.folder = lab.folder / f"twinkle-{number}"
        (self.folder / ".twinkle").mkdir(parents=True)
        self.heard = self.folder / "heard.raw"
        (self.folder / ".asoundrc").write_text(ALSA.format(heard=self.heard))
        self.ports = lab.port(), lab.port()
        self.program, self.seen = None, 0

    def _start(self, transport):
        sip, rtp = self.ports
        (self.folder / ".twinkle/twinkle.sys").write_text(SYSTEM.format(sip=sip, rtp=rtp))
        user = USER.format(number=self.number, host=self.lab.host, sip=self.node.sip, password=secret(self.number),
                           dtmf="rfc2833", transport=transport)
        (self.folder / ".twinkle/lab.cfg").write_text(user)
        self.program = self.lab.start(f"twinkle-{self.number}", ["script", "-qfec", "exec twinkle-console lab.cfg", "/dev/null"],
                                      cwd=self.folder, env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "TERM": "dumb"})
        self.seen = len(self.program.log())
        self._prints("Twinkle>")

    def _prints(self, *texts):
        """The next of these; what was before it counts no more."""

        def found():
            log = self.program.log()
            ends = [at + len(text) for text in texts if (at := log.find(text, self.seen)) >= 0]
            if ends:
                self.seen = min(ends)
            return ends

        until(f"twinkle {self.number} says {' or '.join(texts)}", found)

    def register(self, transport):
        if self.program is None:
            self._start(transport)
        self.program.say("register")
        self._prints("registration succeeded")

    def unregister(self):
        self.program.say("deregister")
        self._prints("de-registration succeeded")
        self._end(signal.SIGTERM)

    def _end(self, how):
        self.program.end(how)
        self.program = None

    def restart(self, transport):
        self._end(signal.SIGKILL)
        self.register(transport)

    def dial(self, number):
        self.program.say(f"call {number}")

    def rings(self):
        self._prints("incoming call")

    def answer(self):
        self.program.say("answer")

    def refuse(self):
        self.program.say("reject")

    def hang_up(self):
        self.program.say("bye")

    def is_up(self):
        self._prints("answered call", "call established")

    def ends(self):
        self._prints("call ended", "far end ended call", "far end cancelled call", "call failed")

    def hold(self):
        self.program.say("hold")

    def resume(self):
        self.program.say("retrieve")

    def press(self, key):
        self.program.say(f"dtmf {key}")

    def hears(self, hertz):
        enough = self._frames(hertz) + sound.ENOUGH_FRAMES
        until(f"twinkle {self.number} hears {hertz} Hz", lambda: self._frames(hertz) >= enough)

    def _frames(self, hertz):
        data = self.heard.read_bytes() if self.heard.exists() else b""
        return sound.frames_with(array.array("h", data[: len(data) // 2 * 2]), hertz)

    def clears(self):
        if self.program:
            self.program.say("bye")


def version():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "twinkle-console"], capture_output=True, text=True)
    return done.stdout or "of another package"


if __name__ == "__main__":
    sys.exit(calls.run(f"twinkle {version()}", Twinkle, ("tcp",)))
