"""An application on the CTI protocol, from its page alone: one connection, one device, one voice."""

import itertools
import json
import select
import socket
import ssl
import threading

from lab import PASSWORD, SOON_S, Failed, until
from sound import Voice


class Refused(Failed):
    """A request was refused: `symbol` is the protocol's word for it."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error['data']['cti']}: {error['message']}")
        self.symbol = error["data"]["cti"]


class Application:
    """Opens `device`; with a voice it ends the media there itself, at one address (static)."""

    def __init__(self, lab, node, device, tone_hz=None):
        self.device, self.tone_hz = device, tone_hz
        self.voice = Voice(lab.host, lab.port()) if tone_hz else None
        tls = ssl.create_default_context(cafile=str(node.ca))
        plain = socket.create_connection((lab.host, node.cti), SOON_S)
        self.wire = tls.wrap_socket(plain, server_hostname=lab.host)
        self.wire.setblocking(False)
        # OpenSSL reads and writes a connection in one thread at a time.
        self.at_wire, self.left = threading.Lock(), threading.Event()
        self.ids, self.answers, self.events = itertools.count(1), {}, []
        self.turn = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        opened = self.ask("provider.open", user="application", password=PASSWORD, application="interop")
        threading.Thread(target=self._beat, args=(opened["heartbeat_ms"] / 2_000,), daemon=True).start()
        media = {}
        if self.voice:
            media = {"media": {"mode": "static", "ip": lab.host, "port": self.voice.port, "codecs": ["PCMU"]}}
        self.in_service = self.ask("device.open", device=device, **media)["device"]["state"] == "in_service"

    def _read(self):
        rest = b""
        while not self.left.is_set():
            try:
                with self.at_wire:
                    piece = self.wire.recv(65_536)
            except ssl.SSLWantReadError:
                select.select([self.wire], [], [], 0.5)
                continue
            except (OSError, ValueError):
                return  # it is closed
            if not piece:
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message):
        with self.turn:
            if message.get("method") != "event":
                self.answers[message["id"]] = message
                return
            event = message["params"]
            self.events.append(event)
            if self.voice and event["type"] == "media.started" and event["direction"] == "input":
                self.voice.event_payload = event.get("dtmf_payload_type")

    def _beat(self, seconds):
        while not self.left.wait(seconds):
            try:
                self._send("provider.heartbeat", {})
            except OSError:
                return

    def _send(self, method, params):
        number = next(self.ids)
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        with self.at_wire:
            self.wire.sendall(line.encode() + b"\n")
        return number

    def ask(self, method, **params):
        """A request and its result."""
        number = self._send(method, params)
        answer = until(f"{method} is answered", lambda: self.answers.pop(number, None))
        if "error" in answer:
            raise Refused(method, answer["error"])
        return answer["result"]

    def hears_of(self, kind, within=SOON_S, **wanted):
        """The first event of this kind, and of this leg, state, …; it and those before it count no more."""

        def fits(event):
            return event["type"] == kind and all(_part(event, name) == value for name, value in wanted.items())

        def found():
            with self.turn:
                at = next((at for at, event in enumerate(self.events) if fits(event)), None)
                if at is None:
                    return None
                event = self.events[at]
                del self.events[: at + 1]
                return event

        def what():
            told = [f"{event['type']} {_part(event, 'state') or ''}" for event in self.events]
            return f"{self.device} is told {kind} {wanted or ''}; it was told {told}"

        return until(what, found, within)

    def speaks(self, leg):
        """Waits until the device's voice is wanted, and speaks there."""
        started = self.hears_of("media.started", leg=leg, direction="output")
        self.voice.speak(self.tone_hz, started["ip"], started["port"])
        return started

    def takes_call(self):
        """Waits for a call, answers it and speaks; gives its leg."""
        leg = self.hears_of("call.offering")["leg"]["leg"]
        self.voice.forget()
        self.ask("call.answer", leg=leg)
        self.hears_of("call.connected", leg=leg)
        self.speaks(leg)
        return leg

    def calls(self, number):
        """Dials; gives the leg."""
        self.voice.forget()
        return self.ask("call.make", device=self.device, destination=number)["leg"]

    def hears(self, hertz, within=SOON_S):
        self.voice.forget()
        def heard():
            return f"{self.device} hears {hertz} Hz ({len(self.voice.samples)} samples came)"

        until(heard, lambda: self.voice.hears(hertz), within)

    def hears_keys(self, keys):
        until(f"{self.device} hears {keys} pressed, not {self.voice.keys!r}", lambda: self.voice.keys == keys)

    def leave(self):
        """Its connection and its voice end."""
        self.left.set()
        self.wire.close()
        if self.voice:
            self.voice.close()

    def clears(self):
        """Ends what is left of calls and forgets what was told."""
        if self.voice:
            self.voice.be_silent()
        for leg in [leg for device in self.ask("provider.snapshot")["devices"] for leg in device["legs"]]:
            try:
                self.ask("call.drop", leg=leg["leg"])
            except Refused:
                pass  # it has ended meanwhile
        with self.turn:
            self.events.clear()


def _part(event, name):
    """A member of the event, of its leg or its device."""
    leg = event.get("leg")
    if isinstance(leg, dict) and name in leg:
        return leg[name]
    device = event.get("device")
    if isinstance(device, dict) and name in device:
        return device[name]
    return event.get(name)
