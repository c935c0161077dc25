"""The place of a script: an address of 10.77.0.0/24, a folder, a node, and programs that end with it.

Nothing here is read from the project's own clients: what the node says is judged from its protocol's page alone.
"""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
SOON_S = 10
PASSWORD = "lab-password"
# Of that password; argon2id.
PASSWORD_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$fpwV0B+gJFZSv/gmAk9v0w$33Sf47kZaINGvHk5RHvf7D1r5lwNxeOOdWunUAEKPdQ"
)
CLAIM_PORT = 11_999
# Below the ephemeral range, which other programs' connections draw from.
PORTS = range(12_000, 32_000, 2)


class Failed(Exception):
    """Something did not come about; the text says what."""


def _rest():
    time.sleep(0.02)


# What happens between two looks: a stack that has no thread of its own does its work here.
idle = [_rest]


def until(what, holds, within=SOON_S):
    """Asks again and again; gives the first answer that is true. `what` may be a function that says it."""
    deadline = time.monotonic() + within
    while True:
        if answer := holds():
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"not within {within} s: {what() if callable(what) else what}")
        for work in idle:
            work()


class Lab:
    """`with Lab("name") as lab`: what it started ends with it."""

    def __init__(self, name):
        self.host, self.claim = _claim_address()
        self.folder = TREE / "target" / "interop" / f"{name}-{os.getpid()}"
        self.folder.mkdir(parents=True)
        self.programs, self._ports, self.is_kept = [], itertools.cycle(PORTS), bool(os.environ.get("CTIMANAGER_LAB_KEEP"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for program in reversed(self.programs):
            program.end()
        self.claim.close()
        if kind or self.is_kept:
            print(f"the lab's files are in {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def port(self):
        """An even port that is free, like the one above it, for UDP and TCP; given once."""
        return next(port for port in self._ports if all(_is_free(self.host, port + n) for n in (0, 1)))

    def start(self, name, words, **settings):
        program = Program(name, words, self.folder / f"{name}.log", **settings)
        self.programs.append(program)
        return program


def _claim_address():
    """The first address that no other lab has: claimed by holding a port of it, as the Rust tests do."""
    for step in range(253):
        host = f"10.77.0.{2 + (os.getpid() + step) % 253}"
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            claim.bind((host, CLAIM_PORT))
            return host, claim
        claim.close()
    raise SystemExit("no free address in 10.77.0.0/24: run scripts/install-lab.sh")


def _is_free(host, port):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as one:
            try:
                one.bind((host, port))
            except OSError:
                return False
    return True


class Program:
    """A running program with its log; `say` writes a line to it."""

    def __init__(self, name, words, log, **settings):
        self.name, self.log_file = name, log
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                [str(word) for word in words], stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True,
                **settings,
            )

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def log(self):
        return self.log_file.read_text(errors="replace")

    def says(self, text, within=SOON_S):
        until(f"{self.name} says {text!r}", lambda: text in self.log() or self.must_run(), within)

    def must_run(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended ({self.process.returncode}):\n{self.log()[-2000:]}")

    def end(self, how=signal.SIGTERM):
        """It and what it has started; all of them have one group."""
        for sent in (how, signal.SIGKILL):
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, sent)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(3)


class Node:
    """`ctimanager run` with two phones, a route point, a port, and one user who may control them all."""

    def __init__(self, lab, change=lambda config: None):
        self.lab, self.folder = lab, lab.folder / "cm1"
        self.folder.mkdir()
        self.program_file = os.environ.get("CTIMANAGER", TREE / "target" / "debug" / "ctimanager")
        self.sip, self.sips, self.cti = lab.port(), lab.port(), lab.port()
        config = self._config()
        change(config)
        (self.folder / "config.yaml").write_text(json.dumps(config))
        self._command("pki", "init", self.folder / "pki", "--config", self.folder / "config.yaml")
        self.ca = self.folder / "pki" / "ca.pem"
        self.start()

    def _config(self):
        lab = self.lab
        ports = {"sip": {"udp": self.sip, "tcp": self.sip, "tls": self.sips}, "cti": {"tls": self.cti}, "web": lab.port(),
                 "cluster": lab.port()}
        return {
            "cluster": {"name": "lab", "security": {"mode": "non_secure", "pki": "./pki"}},
            "nodes": [{"name": "cm1", "host": lab.host, "services": ["callmanager", "ctimanager"],
                       "state_dir": "./state", **ports}],
            "call_manager_groups": [{"name": "Default", "members": ["cm1"]}],
            "device_pools": [{"name": "Default", "call_manager_group": "Default"}],
            "directory_numbers": [],
            "devices": [
                *({"name": f"SEP{number}", "type": "phone", "protocol": "sip", "pool": "Default", "lines": [number],
                   "digest": {"user": number, "password": secret(number)}} for number in ("2001", "2002")),
                {"name": "RP_MAIN", "type": "route_point", "pool": "Default", "lines": ["5000"]},
                {"name": "PORT_1", "type": "cti_port", "pool": "Default", "lines": ["5100"]},
            ],
            "trunks": [], "route_patterns": [],
            "users": [{"id": "application", "kind": "application_user", "password_hash": PASSWORD_HASH,
                       "groups": ["Standard CTI Enabled"], "controlled_devices": ["RP_MAIN", "PORT_1", "SEP*"]}],
        }

    def start(self):
        state = self.folder / "state"
        self.socket_file = state / "ctimanager.sock"
        words = [self.program_file, "run", "--config", self.folder / "config.yaml", "--state", state, "--socket",
                 self.socket_file]
        level = os.environ.get("CTIMANAGER_LAB_LOG", "info")
        self.program = self.lab.start("ctimanager", words, env={**os.environ, "RUST_LOG": level})
        for port in (self.sip, self.sips, self.cti):
            until("the node listens", lambda port=port: self.program.must_run() or _listens(self.lab.host, port))

    def kill(self):
        """Without a word, as a crash would."""
        self.program.end(signal.SIGKILL)

    def _command(self, *words):
        done = subprocess.run([str(word) for word in (self.program_file, *words)], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"ctimanager {words[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, command):
        """What an administrator's command says, as JSON."""
        return json.loads(self._command(command, "--output", "json", "--socket", self.socket_file))

    def is_quiet(self):
        """Waits until no call is left."""
        until("no call is left on the node", lambda: self.ask("calls") == [])

    def certificate_for_phone(self):
        """A certificate with the lab's address by the cluster's authority, and its key: made by openssl."""
        made = [self.folder / f"phone.{end}" for end in ("pem", "key", "csr", "ext")]
        certificate, key, request, extension = made
        if not certificate.exists():
            extension.write_text(f"subjectAltName=IP:{self.lab.host}")
            _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                     f"/CN={self.lab.host}", "-keyout", key, "-out", request)
            _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca.with_suffix(".key"), "-days", "2",
                     "-extfile", extension, "-out", certificate)
        return certificate, key

    def registrar(self, transport):
        return f"{self.lab.host}:{self.sips if transport == 'tls' else self.sip}"


def _openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"openssl {words[0]}: {done.stderr}")


def secret(number):
    """The digest password of a phone."""
    return f"pass-{number}"


def _listens(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False
