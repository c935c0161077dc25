#!/usr/bin/env python3
"""pjsua (PyPI `pjsua2-python`): see calls.py for what it does. tests/interop/run.sh pjsua"""

import os
import sys

import calls
import pjsua2 as pj
import sound
from lab import Failed, idle, secret, until

CLOCK_HZ = 16_000
BUSY = 486


class Call(pj.Call):
    """A call that speaks and records from when it has media."""

    def __init__(self, phone, call_id=pj.PJSUA_INVALID_ID):
        super().__init__(phone.account, call_id)
        self.phone, self.up, self.over, self.states = phone, False, False, []
        self.recorder, self.player, self.file = None, None, None

    def onCallState(self, _):
        info = self.getInfo()
        self.up = info.state == pj.PJSIP_INV_STATE_CONFIRMED
        self.over = info.state == pj.PJSIP_INV_STATE_DISCONNECTED

    def has_media(self):
        return pj.PJSUA_CALL_MEDIA_ACTIVE in self.states

    def onCallMediaState(self, _):
        # The list is gone with what holds it.
        info = self.getInfo()
        self.states = [media.status for media in info.media]
        if not self.has_media():
            return
        if self.player is None:
            self.player = pj.AudioMediaPlayer()
            self.player.createPlayer(str(self.phone.tone_file))
            self.listen()
        audio = self.getAudioMedia(-1)
        self.player.startTransmit(audio)
        audio.startTransmit(self.recorder)

    def listen(self):
        """A recording that begins now."""
        self.file = self.phone.lab.folder / f"heard-{self.phone.number}-{self.phone.count()}.wav"
        self.recorder = pj.AudioMediaRecorder()
        self.recorder.createRecorder(str(self.file))

    def listen_anew(self):
        audio = self.getAudioMedia(-1)
        self.listen()
        audio.startTransmit(self.recorder)


class Account(pj.Account):
    def __init__(self, phone):
        super().__init__()
        self.phone = phone

    def onIncomingCall(self, told):
        self.phone.call = Call(self.phone, told.callId)
        ringing = pj.CallOpParam()
        ringing.statusCode = 180
        self.phone.call.answer(ringing)


class Pjsua(calls.Phone):
    """An account with a transport of each kind; all phones share the one endpoint that a process may have."""

    endpoint = None

    def __init__(self, lab, node, number, tone_hz):
        super().__init__(lab, node, number, tone_hz)
        self.tone_file = lab.folder / f"tone-{number}.wav"
        sound.write_wav(self.tone_file, tone_hz, 60, CLOCK_HZ)
        if Pjsua.endpoint is None:
            Pjsua.begin(lab, node)
        self.account, self.call, self.numbers = None, None, 0

    @staticmethod
    def begin(lab, node):
        endpoint, config = pj.Endpoint(), pj.EpConfig()
        endpoint.libCreate()
        config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
        config.logConfig.level, config.logConfig.consoleLevel = 5, 0
        config.logConfig.filename = str(lab.folder / "pjsua.log")
        endpoint.libInit(config)
        endpoint.audDevManager().setNullDev()
        kinds = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
        Pjsua.transports = {name: Pjsua.listen(endpoint, lab, node, kind) for name, kind in kinds.items()}
        endpoint.libStart()
        Pjsua.endpoint = endpoint
        idle[:] = [lambda: endpoint.libHandleEvents(20)]

    @staticmethod
    def listen(endpoint, lab, node, kind):
        config = pj.TransportConfig()
        config.boundAddress, config.port = lab.host, lab.port()
        config.tlsConfig.CaListFile, config.tlsConfig.verifyServer = str(node.ca), True
        certificate, key = node.certificate_for_phone()
        config.tlsConfig.certFile, config.tlsConfig.privKeyFile = str(certificate), str(key)
        return endpoint.transportCreate(kind, config)

    def count(self):
        self.numbers += 1
        return self.numbers

    def register(self, transport):
        account, wish = Account(self), pj.AccountConfig()
        self.registrar = f"{self.node.registrar(transport)};transport={transport}"
        wish.idUri, wish.regConfig.registrarUri = f"sip:{self.number}@{self.lab.host}", f"sip:{self.registrar}"
        wish.regConfig.timeoutSec = 120
        wish.natConfig.sipOutboundUse = 0
        # Its Contact is where it listens, not the port of its connection, and it doesn't come back by itself: so it is dialled.
        wish.natConfig.contactUseSrcPort, wish.natConfig.contactRewriteUse = 0, 0
        wish.regConfig.retryIntervalSec = 0
        wish.mediaConfig.transportConfig.boundAddress = self.lab.host
        wish.mediaConfig.transportConfig.port = self.lab.port()
        wish.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", self.number, 0, secret(self.number)))
        wish.sipConfig.transportId = self.transports[transport]
        account.create(wish)
        self.account, self.wish = account, wish
        self._until_registered(account)

    def _until_registered(self, account):
        until("pjsua is registered", lambda: account.getInfo().regIsActive or self._refused(account.getInfo()))

    def _refused(self, info):
        if info.regStatus >= 400 or info.regLastErr:
            raise Failed(f"REGISTER: {info.regStatus} {info.regStatusText}")

    def unregister(self):
        self.account.setRegistration(False)
        until("pjsua is de-registered", lambda: not self.account.getInfo().regIsActive)
        self.account.shutdown()
        self.account = None

    def restart(self, transport):
        # Without a word the registration of before is forgotten; the next one has a Call-ID of its own.
        self.wish.regConfig.disableRegOnModify = True
        self.wish.idUri = f"\"again\" <{self.wish.idUri}>"
        self.account.modify(self.wish)
        self.account.setRegistration(True)
        self._until_registered(self.account)

    def dial(self, number):
        self.call = Call(self)
        self.call.makeCall(f"sip:{number}@{self.registrar}", pj.CallOpParam(True))

    def rings(self):
        until("pjsua rings", lambda: self.call and not self.call.up and not self.call.over)

    def answer(self):
        taken = pj.CallOpParam()
        taken.statusCode = 200
        self.call.answer(taken)

    def refuse(self):
        busy = pj.CallOpParam()
        busy.statusCode = BUSY
        self.call.hangup(busy)

    def hang_up(self):
        self.call.hangup(pj.CallOpParam())

    def is_up(self):
        until("pjsua's call is up", lambda: self.call.up and self.call.has_media())

    def ends(self):
        until("pjsua's call ends", lambda: self.call.over)

    def hold(self):
        self.is_up()
        self.call.setHold(pj.CallOpParam())
        until("pjsua holds", lambda: pj.PJSUA_CALL_MEDIA_LOCAL_HOLD in self.call.states)

    def resume(self):
        wish = pj.CallOpParam(True)
        wish.opt.flag = pj.PJSUA_CALL_UNHOLD
        until("pjsua has no offer under way", lambda: self._may_offer(wish))
        until("pjsua's media are back", self.call.has_media)

    def _may_offer(self, wish):
        try:
            self.call.reinvite(wish)
        except pj.Error:
            return False
        return True

    def press(self, key):
        self.call.dialDtmf(key)

    def press_by_info(self, key):
        press = pj.CallSendDtmfParam()
        press.method, press.digits = pj.PJSUA_DTMF_METHOD_SIP_INFO, key
        self.call.sendDtmf(press)

    def hears(self, hertz):
        self.is_up()
        self.call.listen_anew()
        heard = lambda: sound.frames_with(*self._heard(hertz)) >= sound.ENOUGH_FRAMES
        until(f"pjsua {self.number} hears {hertz} Hz", heard)

    def _heard(self, hertz):
        samples, rate = sound.wav_samples(self.call.file, CLOCK_HZ)
        return samples, hertz, rate

    def clears(self):
        self.endpoint.hangupAllCalls()
        until("pjsua has no call", lambda: not self.call or self.call.over)
        self.call = None


def main():
    status = calls.run(f"pjsua {pj.Endpoint().libVersion().full}", Pjsua, ("tcp", "tls"))
    sys.stdout.flush()
    # Its objects don't survive what the interpreter would take down now.
    os._exit(status)


if __name__ == "__main__":
    main()
