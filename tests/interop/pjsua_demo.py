#!/usr/bin/env python3
"""pjsua against `ctimanager demo --keep`: registers as printed, calls 5000, hears the prompt, presses, hears who answers.

    scripts/install-lab.sh --python
    ctimanager demo --keep > /tmp/demo.log & target/interop/python/bin/python tests/interop/pjsua_demo.py < /tmp/demo.log

Not run by the test command: its wheels are for some machines only. Digits go by RFC 4733 in the first call and by INFO in the
second. Exit 0 when all was heard.
"""

import os
import re
import sys
import tempfile
import time

import pjsua2 as pj

import sound

SERVER = re.compile(r"server (\S+) \(UDP\)\s+user (\S+)\s+password (\S+)")
PATIENCE_S = 20
CLOCK_HZ = 16_000


class Call(pj.Call):
    """A call that records what it hears."""

    def __init__(self, account, path):
        super().__init__(account)
        self.path, self.recorder, self.over = path, None, False

    def onCallState(self, _):
        self.over = self.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED

    def onCallMediaState(self, _):
        if self.recorder is None:
            self.recorder = pj.AudioMediaRecorder()
            self.recorder.createRecorder(self.path)
        self.getAudioMedia(-1).startTransmit(self.recorder)


def frames_with(path, hertz):
    """Frames of 20 ms that are filled by this frequency."""
    samples, rate = sound.wav_samples(path, CLOCK_HZ)
    return sound.frames_with(samples, hertz, rate, share=0.7)


def wait(endpoint, what, holds):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            print(f"not within {PATIENCE_S} s: {what}", file=sys.stderr, flush=True)
            # Its objects don't survive a tidy end in the middle of a call.
            os._exit(1)
        endpoint.libHandleEvents(20)


def hears(endpoint, call, hertz):
    # Half a second of it; the file is written as it is heard.
    wait(endpoint, f"{hertz} Hz is heard", lambda: call.recorder and frames_with(call.path, hertz) >= 25)
    print(f"heard {hertz} Hz")


def main():
    printed = next(found for line in sys.stdin if (found := SERVER.search(line)))
    server, user, password = printed.groups()
    endpoint, config = pj.Endpoint(), pj.EpConfig()
    endpoint.libCreate()
    config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
    config.logConfig.level = config.logConfig.consoleLevel = 1
    endpoint.libInit(config)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    account, wish = pj.Account(), pj.AccountConfig()
    wish.idUri, wish.regConfig.registrarUri = f"sip:{user}@{server}", f"sip:{server}"
    wish.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, password))
    account.create(wish)
    wait(endpoint, "it is registered", lambda: account.getInfo().regIsActive)
    print(f"registered as {user} at {server}")
    for digit, by_info, hertz in (("1", False, 1_000), ("2", True, 700)):
        with tempfile.NamedTemporaryFile(suffix=".wav") as heard:
            call = Call(account, heard.name)
            call.makeCall(f"sip:5000@{server}", pj.CallOpParam(True))
            hears(endpoint, call, 440)
            if by_info:
                press = pj.CallSendDtmfParam()
                press.method, press.digits = pj.PJSUA_DTMF_METHOD_SIP_INFO, digit
                call.sendDtmf(press)
            else:
                call.dialDtmf(digit)
            hears(endpoint, call, hertz)
            call.hangup(pj.CallOpParam())
            wait(endpoint, "the call ends", lambda: call.over)
            call.recorder = None
    account.shutdown()
    endpoint.libDestroy()
    print("all heard", flush=True)
    # What the interpreter would take down afterwards is gone already.
    os._exit(0)


if __name__ == "__main__":
    main()
