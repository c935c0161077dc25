"""An attendant of fifty lines, with the standard library alone: answers every call at a device and redirects it.

usage: attendant.py HOST:PORT CA.pem USER DEVICE EXTENSION [OWN-ADDRESS]    (the password is in $CTI_PASSWORD)
"""
import itertools, json, os, socket, ssl, sys

host, _, port = sys.argv[1].rpartition(":")
ca, user, device, extension = sys.argv[2:6]
own_address = sys.argv[6] if len(sys.argv) > 6 else host

media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # where callers' audio would arrive
media.bind((own_address, 0))
while media.getsockname()[1] % 2:  # RTP ports are even
    media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    media.bind((own_address, 0))

tls = ssl.create_default_context(cafile=ca)
wire = tls.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
lines = wire.makefile("r", encoding="utf-8", newline="\n")
ids, waiting = itertools.count(1), {}


def request(method, **params):
    number = next(ids)
    waiting[number] = method
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    wire.sendall(json.dumps(message).encode() + b"\n")


request("provider.open", user=user, password=os.environ["CTI_PASSWORD"], application="attendant.py")
address = {"ip": own_address, "port": media.getsockname()[1]}
for message in map(json.loads, lines):
    if message.get("method") != "event":
        method = waiting.pop(message["id"])
        print(method, message.get("error", "ok"), flush=True)
        if method == "provider.open" and "result" in message:
            request("device.open", device=device, media={"mode": "static", "codecs": ["PCMU", "PCMA"], **address})
        continue
    event = message["params"]
    leg = event.get("leg", {})
    if event["type"].startswith("call.") and isinstance(leg, dict):
        print(event["type"], leg["leg"], leg["calling"]["number"], "->", leg["called"]["number"], flush=True)
    if event["type"] == "call.offering":
        request("call.answer", leg=leg["leg"])
    elif event["type"] == "session.heartbeat":
        request("provider.heartbeat")
    elif event["type"] == "call.connected":
        request("call.redirect", leg=leg["leg"], destination=extension)
