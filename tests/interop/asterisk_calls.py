#!/usr/bin/env python3
"""Asterisk (PJSIP channel) as a trunk over UDP, TCP and TLS. tests/interop/run.sh asterisk, or this with a transport alone.

The program is $ASTERISK, else the one that get_asterisk.sh has brought.
"""

import os
import pathlib
import subprocess
import sys

import calls
from application import Application
from calls import BUSY, POINT_HZ, PORT_HZ
from lab import TREE, Failed, Lab, Node, until
from linphone_calls import Linphone

ASTERISK = pathlib.Path(os.environ.get("ASTERISK", TREE / "target" / "interop" / "asterisk" / "asterisk"))
TONE_HZ, PHONE_HZ = 1_100, 500
# The digit before a number is its trunk.
TRUNKS = {"udp": "71", "tcp": "72", "tls": "73"}

MAIN = """[directories]
astetcdir => {folder}
astmoddir => {modules}
astvarlibdir => {folder}/lib
astdbdir => {folder}/lib
astkeydir => {folder}/lib
astdatadir => {data}
astagidir => {folder}/lib
astspooldir => {folder}/spool
astrundir => {folder}/run
astlogdir => {folder}/log
[options]
verbose = 4
"""
# What finds no configuration stays out of the way.
MODULES = """[modules]
autoload = yes
noload = chan_console.so
noload = chan_iax2.so
noload = app_jack.so
noload = pbx_dundi.so
noload = res_snmp.so
"""
TRANSPORTS = """[udp]
type=transport
protocol=udp
bind={host}:{udp}
[tcp]
type=transport
protocol=tcp
bind={host}:{tcp}
[tls]
type=transport
protocol=tls
bind={host}:{tls}
method=tlsv1_2
cert_file={certificate}
priv_key_file={key}
ca_list_file={ca}
verify_server=yes
"""
ENDPOINT = """[node-{transport}]
type=endpoint
context=from-node
disallow=all
allow=ulaw
direct_media=no
rtp_symmetric=no
send_pai=yes
trust_id_inbound=yes
media_address={host}
bind_rtp_to_media_address=yes
aors=node-{transport}
transport={transport}
[node-{transport}]
type=aor
contact=sip:{registrar};transport={transport}
"""
# Who calls in is answered by the transport that it came by.
IDENTIFY = """[node]
type=endpoint
context=from-node
disallow=all
allow=ulaw
direct_media=no
trust_id_inbound=yes
media_address={host}
bind_rtp_to_media_address=yes
[node]
type=identify
endpoint=node
match={host}
"""
DIALPLAN = """[from-node]
exten => 01,1,Verbose(1,called by ${CALLERID(num)})
same => n,Answer()
same => n,Playtones(1100)
same => n,WaitExten(60)
exten => 02,1,Answer()
same => n,Echo()
exten => 03,1,Hangup(17)
exten => 04,1,Ringing()
same => n,Wait(60)
exten => 05,1,Answer()
same => n,Read(keys,,3,,1,20)
same => n,Verbose(1,read ${keys} from it)
same => n,Hangup()
exten => 06,1,Dial(PJSIP/5000@node-udp,60)
[echo]
exten => s,1,Answer()
same => n,Echo()
[tone]
exten => s,1,Answer()
same => n,Playtones(1100)
same => n,WaitExten(60)
[keys]
exten => s,1,Answer()
same => n,SendDTMF(15#,200)
same => n,WaitExten(60)
"""


class Asterisk:
    """A running Asterisk, with an endpoint for the node over each transport."""

    def __init__(self, lab, node, ports):
        self.lab, self.folder = lab, lab.folder / "asterisk"
        for name in ("lib", "spool", "run", "log"):
            (self.folder / name).mkdir(parents=True)
        places = {"host": lab.host, "folder": self.folder, "modules": _beside("modules"), "data": _beside("data"), **ports}
        certificate, key = node.certificate_for_phone()
        self._write("asterisk.conf", MAIN.format(**places))
        self._write("modules.conf", MODULES)
        self._write("rtp.conf", f"[general]\nrtpstart={lab.port()}\nrtpend={max(lab.port() for _ in range(20))}\n")
        self._write("logger.conf", "[general]\n[logfiles]\nconsole => notice,warning,error,verbose\n")
        endpoints = [ENDPOINT.format(transport=name, registrar=node.registrar(name), host=lab.host) for name in TRUNKS]
        transports = TRANSPORTS.format(certificate=certificate, key=key, ca=node.ca, **places)
        self._write("pjsip.conf", transports + "".join(endpoints) + IDENTIFY.format(**places))
        self._write("extensions.conf", DIALPLAN)
        self.program = lab.start("asterisk", [ASTERISK, "-C", self.folder / "asterisk.conf", "-f", "-vvvv", "-n"])
        self.program.says("Asterisk Ready", 60)

    def _write(self, name, text):
        (self.folder / name).write_text(text)

    def says(self, command):
        """A command at its console."""
        words = [str(ASTERISK), "-C", str(self.folder / "asterisk.conf"), "-n", "-rx", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout

    def calls(self, number, transport, place):
        """Dials the node; whoever answers gets what this place of the dialplan has for him."""
        self.says(f"channel originate PJSIP/{number}@node-{transport} extension s@{place}")

    def is_quiet(self):
        until("asterisk has no call", lambda: "0 active channels" in self.says("core show channels"))


def _beside(what):
    """Folders of an Asterisk that lies in a folder of its own, else the system's."""
    root = ASTERISK.parent / "system"
    found = sorted((root if root.is_dir() else pathlib.Path("/")).glob("usr/lib/*/asterisk/modules"))
    if what == "modules":
        return found[0] if found else "/usr/lib/asterisk/modules"
    return (root if root.is_dir() else pathlib.Path("/")) / "usr/share/asterisk"


def trunks(config, host, ports):
    for transport, prefix in TRUNKS.items():
        name = f"asterisk-{transport}"
        trunk = {"name": name, "host": host, "port": ports[transport], "transport": transport}
        if transport == "tcp":
            trunk["source_port"] = "any"
        config["trunks"].append(trunk)
        config["route_patterns"].append({"pattern": f"{prefix}.!", "trunk": name, "discard": "pre_dot"})


class Trunk:
    """The steps over one transport."""

    def __init__(self, node, asterisk, point, port, transport):
        self.node, self.asterisk, self.point, self.port = node, asterisk, point, port
        self.transport, self.prefix = transport, TRUNKS[transport]

    def dials(self, number):
        leg = self.port.calls(self.prefix + number)
        return leg

    def connected(self, number):
        leg = self.dials(number)
        self.port.hears_of("call.connected", leg=leg)
        self.port.speaks(leg)
        return leg

    def ends(self, leg):
        self.port.ask("call.drop", leg=leg)
        self.port.hears_of("call.disconnected", leg=leg)
        self.asterisk.is_quiet()

    def hears_a_tone(self):
        leg = self.connected("01")
        self.port.hears(TONE_HZ)
        self.ends(leg)

    def hears_itself(self):
        leg = self.connected("02")
        self.port.hears(PORT_HZ)
        self.port.ask("call.hold", leg=leg)
        self.port.hears_of("call.held", leg=leg)
        self.port.ask("call.retrieve", leg=leg)
        self.port.hears_of("call.connected", leg=leg)
        self.port.speaks(leg)
        self.port.hears(PORT_HZ)
        self.ends(leg)

    def is_busy(self):
        leg = self.dials("03")
        cause = self.port.hears_of("call.failed", leg=leg)["leg"]["cause"]
        if cause["code"] != BUSY:
            raise Failed(f"cause {cause}")

    def gives_up(self):
        leg = self.dials("04")
        self.port.hears_of("call.ringback", leg=leg)
        self.ends(leg)

    def presses(self):
        leg = self.dials("05")
        self.port.hears_of("call.connected", leg=leg)
        started = self.port.hears_of("media.started", leg=leg, direction="output")
        for key in "42#":
            self.port.voice.press(key, started["ip"], started["port"], started["dtmf_payload_type"])
        self.asterisk.program.says("read 42 from it")
        self.port.hears_of("call.disconnected", leg=leg)

    def is_called(self):
        self.asterisk.calls("5000", self.transport, "tone")
        leg = self.point.takes_call()
        self.point.hears(TONE_HZ)
        self.point.ask("call.drop", leg=leg)
        self.asterisk.is_quiet()

    def is_echoed(self):
        self.asterisk.calls("5000", self.transport, "echo")
        leg = self.point.takes_call()
        self.point.hears(POINT_HZ)
        self.point.ask("call.drop", leg=leg)
        self.asterisk.is_quiet()

    def gets_keys(self):
        self.asterisk.calls("5000", self.transport, "keys")
        leg = self.point.takes_call()
        self.point.hears_keys("15#")
        self.point.ask("call.drop", leg=leg)
        self.asterisk.is_quiet()

    def refuses(self):
        self.asterisk.calls("5000", self.transport, "tone")
        leg = self.point.hears_of("call.offering")["leg"]["leg"]
        self.point.ask("call.reject", leg=leg, cause=BUSY)
        self.point.hears_of("call.disconnected", leg=leg)
        self.asterisk.is_quiet()

    def turns_round(self):
        """From the node to Asterisk, and by its dialplan back to the node."""
        leg = self.dials("06")
        other = self.point.takes_call()
        self.port.hears_of("call.connected", leg=leg)
        self.port.speaks(leg)
        self.port.hears(POINT_HZ)
        self.point.hears(PORT_HZ)
        self.port.ask("call.drop", leg=leg)
        self.point.hears_of("call.disconnected", leg=other)
        self.asterisk.is_quiet()

    def take_all(self, steps):
        over = f"over {self.transport.upper()}"
        for name, step in (
            ("calls it and hears its tone", self.hears_a_tone), ("hears its own echo, also after hold", self.hears_itself),
            ("is told that it is busy", self.is_busy), ("gives up", self.gives_up), ("presses keys", self.presses),
            ("is called and hears its tone", self.is_called), ("is called and is echoed", self.is_echoed),
            ("gets keys", self.gets_keys), ("refuses", self.refuses), ("turns round in it", self.turns_round),
        ):
            steps.take(f"{name} {over}", step)


def phones(steps, lab, node, asterisk):
    """A phone of another stack and Asterisk."""
    phone = Linphone(lab, node, "2001", PHONE_HZ)

    def calls_out():
        phone.register("udp")
        phone.dial(f"{TRUNKS['udp']}02")
        phone.is_up()
        phone.hears(PHONE_HZ)
        phone.hold()
        phone.resume()
        phone.hears(PHONE_HZ)
        phone.hang_up()
        asterisk.is_quiet()

    def is_called():
        asterisk.calls("2001", "udp", "tone")
        phone.rings()
        phone.answer()
        phone.hears(TONE_HZ)
        phone.hang_up()
        asterisk.is_quiet()

    steps.after.append(phone.clears)
    steps.take("a phone hears its echo, also after hold", calls_out)
    steps.take("a phone is called and hears its tone", is_called)


def main():
    told = subprocess.run([str(ASTERISK), "-V"], capture_output=True, text=True).stdout
    steps = calls.Steps(f"asterisk {told.split()[1].partition('+')[0]}")
    with Lab("asterisk") as lab:
        ports = {transport: lab.port() for transport in TRUNKS}
        node = Node(lab, lambda config: trunks(config, lab.host, ports))
        asterisk = Asterisk(lab, node, ports)
        point, port = (Application(lab, node, *what) for what in (("RP_MAIN", POINT_HZ), ("PORT_1", PORT_HZ)))
        steps.after += [point.clears, port.clears, lambda: asterisk.says("channel request hangup all"), node.is_quiet]
        for transport in sys.argv[1:] or TRUNKS:
            Trunk(node, asterisk, point, port, transport).take_all(steps)
        phones(steps, lab, node, asterisk)
        lab.is_kept |= bool(steps.bad)
    return steps.end()


if __name__ == "__main__":
    sys.exit(main())
