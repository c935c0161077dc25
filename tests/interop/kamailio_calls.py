#!/usr/bin/env python3
"""Kamailio (Debian `kamailio`) as an edge: phones over UDP before it, the node over TCP behind it, Path between them (RFC 3327).

Its connections to the node close when nothing passes for two seconds, as those of a firewall do: each call to a phone after that
has to dial the Path anew. The phones are linphonec. See calls.py for the steps; tests/interop/run.sh kamailio
"""

import os
import pathlib
import signal
import subprocess
import sys

import calls
from lab import Lab, secret, until
from linphone_calls import Linphone

IDLE_S = 2
# It looks for idle connections at a pace of its own: they live nine seconds longer.
OWN_PACE_S = 20
CONFIGURATION = """debug=1
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
tcp_connection_lifetime={idle}
tcp_source_ipv4={host}
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "path.so"
loadmodule "siputils.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
modparam("rr", "enable_double_rr", 1)
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (!loose_route()) {{ sl_send_reply("404", "No Route"); exit; }}
    t_relay();
    exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (is_method("REGISTER")) {{
    append_hf("Path: <sip:{host}:{port};transport=tcp;lr>\\r\\n");
    $du = "sip:{host}:{node};transport=tcp";
    t_relay();
    exit;
  }}
  record_route();
  # From the node to a phone: its Path is the Route, its Contact the request line.
  if (proto == TCP) {{ loose_route(); t_relay(); exit; }}
  $du = "sip:{host}:{node};transport=tcp";
  t_relay();
}}
"""


class Edge:
    """A running kamailio before a node."""

    def __init__(self, lab, node):
        self.lab, self.node, self.port = lab, node, lab.port()
        self.folder = lab.folder / "kamailio"
        self.folder.mkdir()
        text = CONFIGURATION.format(host=lab.host, port=self.port, node=node.sip, idle=IDLE_S)
        (self.folder / "kamailio.cfg").write_text(text)
        self.start()

    def start(self):
        words = ["kamailio", "-DD", "-E", "-m", "64", "-M", "8", "-f", "./kamailio.cfg", "-w", ".", "-Y", ".", "-P", "./pid"]
        search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.program = self.lab.start("kamailio", words, cwd=self.folder, env={**os.environ, "PATH": search})
        until("kamailio listens", lambda: self.program.must_run() or self._states(self.port, local=True, state="0A"))

    def is_gone(self):
        """Waits until none of its processes listens any more: the new one's listener is looked for next."""
        until("kamailio is gone", lambda: not self._states(self.port, local=True, state="0A"))

    def _states(self, port, local, state):
        """Connections of this port in this state, as the kernel lists them."""
        rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        host = "".join(f"{int(part):02X}" for part in reversed(self.lab.host.split(".")))
        return [row for row in rows if row[1 if local else 2] == f"{host}:{port:04X}" and row[3] == state]

    def is_idle(self):
        """Waits until no connection between kamailio and the node is left."""

        def gone():
            return not any(self._states(port, local, "01") for port in (self.node.sip, self.port) for local in (True, False))

        until("kamailio closes its idle connections", gone, IDLE_S + OWN_PACE_S)


class BehindEdge(Linphone):
    """linphonec that knows kamailio alone."""

    edge = None

    def register(self, transport):
        if self.program is None:
            self._start()
        self.registrar = f"{self.lab.host}:{self.edge.port};transport={transport}"
        self.program.say(f"register sip:{self.number}@{self.lab.host} sip:{self.registrar} {secret(self.number)}")
        self.comes_to("[LinphoneRegistrationOk]")


def idle_then(edge, step):
    def steps():
        edge.is_idle()
        step()

    return steps


def begins_anew(edge, step):
    def steps():
        edge.program.end(signal.SIGKILL)
        edge.is_gone()
        edge.start()
        step()

    return steps


def version():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "kamailio"], capture_output=True, text=True)
    return done.stdout or "of another package"


def main():
    steps = calls.Steps(f"kamailio {version()}")
    with Lab("kamailio") as lab:
        scene = calls.Scene(lab, BehindEdge, steps)
        edge = BehindEdge.edge = Edge(lab, scene.node)
        steps.take("a phone registers through it", scene.registers)
        steps.take("the phone calls a route point", scene.calls_point)
        steps.take("is called after the connection was idle and closed", idle_then(edge, scene.is_called))
        steps.take("holds and resumes", scene.holds)
        steps.take("is held by an application", scene.is_held)
        steps.take("refuses", scene.refuses)
        steps.take("does not answer", scene.does_not_answer)
        steps.take("gives up", scene.gives_up)
        steps.take("calls another phone behind it, both are heard", scene.calls_phone)
        steps.take("is called after kamailio started again", begins_anew(edge, scene.is_called))
        steps.take("is called after the node started again", scene.is_reached_anew)
        steps.take("de-registers", scene.leaves)
        lab.is_kept |= bool(steps.bad)
    return steps.end()


if __name__ == "__main__":
    sys.exit(main())
