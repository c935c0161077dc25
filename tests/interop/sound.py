"""Tones, and an RTP address that speaks one and knows what it hears. Written from RFC 3550, RFC 4733 and G.711.

Each speaker has a frequency of its own, so that whoever listens can tell who is heard.
"""

import array
import math
import pathlib
import socket
import struct
import threading

RATE_HZ = 8_000
FRAME = 160  # samples of 20 ms
# A quarter of a second of one tone is enough to have heard somebody.
ENOUGH_FRAMES = 13
# Of telephone-event, until somebody says another.
EVENT_PAYLOAD = 101
KEYS = "0123456789*#ABCD"
HEADER_BYTES = 44


def sine(hertz, seconds, rate=RATE_HZ):
    """Samples of 16 bits at a quarter of full scale."""
    step = 2 * math.pi * hertz / rate
    return array.array("h", (int(8_192 * math.sin(step * n)) for n in range(rate * seconds)))


def write_wav(path, hertz, seconds, rate=RATE_HZ):
    data = sine(hertz, seconds, rate).tobytes()
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data",
                       len(data))
    pathlib.Path(path).write_bytes(head + data)


def wav_samples(path, rate):
    """Samples and their rate, also of a file that is still being written: its header may come at the end."""
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return array.array("h"), rate
    told = int.from_bytes(data[24:28], "little")
    body = data[HEADER_BYTES:]
    return array.array("h", body[: len(body) // 2 * 2]), told or rate


def frames_with(samples, hertz, rate=RATE_HZ, share=0.66):
    """How many frames of 20 ms hold this tone and hardly anything else (Goertzel)."""
    length, found = rate // 50, 0
    coefficient = 2 * math.cos(2 * math.pi * hertz / rate)
    for start in range(0, len(samples) - length + 1, length):
        frame = samples[start : start + length]
        total = sum(s * s for s in frame)
        if total < length * 40_000:
            continue
        last = before = 0.0
        for sample in frame:
            last, before = sample + coefficient * last - before, last
        power = last * last + before * before - coefficient * last * before
        found += 2 * power / (total * length) > share
    return found


def _from_mu_law(byte):
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 0x84) << ((byte >> 4) & 7)
    return 0x84 - magnitude if byte & 0x80 else magnitude - 0x84


def _to_mu_law(sample):
    magnitude = min(abs(sample), 32_635) + 0x84
    exponent = magnitude.bit_length() - 8
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return ~((0x80 if sample < 0 else 0) | (exponent << 4) | mantissa) & 0xFF


MU_LAW = [_from_mu_law(byte) for byte in range(256)]


class Voice:
    """One RTP address with PCMU."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.turn = threading.Lock()
        self.samples, self.keys, self.last_key_at = array.array("h"), "", None
        self.event_payload, self.pressed = EVENT_PAYLOAD, 0
        self.quiet = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                packet = self.socket.recv(2048)
            except ConnectionError:
                continue  # a peer that has gone
            except OSError:
                return
            if len(packet) > 12 and packet[0] == 0x80:
                with self.turn:
                    self._take(packet)

    def _take(self, packet):
        kind, at, payload = packet[1] & 0x7F, packet[4:8], packet[12:]
        if kind == 0:
            self.samples.extend(MU_LAW[byte] for byte in payload)
        elif kind == self.event_payload and payload[0] < len(KEYS) and at != self.last_key_at:
            # All packets of one key have the same time.
            self.last_key_at = at
            self.keys += KEYS[payload[0]]

    def speak(self, hertz, host, port):
        """Speaks this tone there from now on, instead of what was spoken before."""
        self.be_silent()
        self.quiet = threading.Event()
        threading.Thread(target=self._speak, args=(hertz, (host, port), self.quiet), daemon=True).start()

    def _speak(self, hertz, to, quiet):
        cycle = bytes(_to_mu_law(sample) for sample in sine(hertz, 1))
        number = 0
        while not quiet.wait(0.02):
            start = number * FRAME % RATE_HZ
            head = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * FRAME & 0xFFFFFFFF, hertz)
            try:
                self.socket.sendto(head + cycle[start : start + FRAME], to)
            except ConnectionError:
                pass  # it shows in what is heard
            except OSError:
                return
            number += 1

    def press(self, key, host, port, payload=EVENT_PAYLOAD):
        """A key of 100 ms as RTP events, its end three times."""
        self.pressed += 1
        for number, (end, lasts) in enumerate([(0, 160), (0, 480), (0x80, 800), (0x80, 800), (0x80, 800)]):
            marker = 0x80 if number == 0 else 0
            place = 8 * self.pressed + number
            head = struct.pack(">BBHII", 0x80, marker | payload, place, 8_000 * self.pressed, 1)
            self.socket.sendto(head + struct.pack(">BBH", KEYS.index(key), end | 10, lasts), (host, port))

    def be_silent(self):
        self.quiet.set()

    def forget(self):
        """What was heard so far counts no more."""
        with self.turn:
            self.samples, self.keys = array.array("h"), ""

    def hears(self, hertz):
        with self.turn:
            samples = self.samples[:]
        return frames_with(samples, hertz) >= ENOUGH_FRAMES

    def close(self):
        self.be_silent()
        self.socket.close()
