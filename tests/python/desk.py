"""A desk with so many places: answers that many calls at a device, and lets those after them ring. Heartbeats each second.

usage: desk.py HOST:PORT CA.pem USER DEVICE PLACES    (the password is in $CTI_PASSWORD)
"""
import itertools, json, os, socket, ssl, sys, threading, time

host, _, port = sys.argv[1].rpartition(":")
ca, user, device, places = sys.argv[2:6]
places = int(places)

tls = ssl.create_default_context(cafile=ca)
wire = tls.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
lines = wire.makefile("r", encoding="utf-8", newline="\n")
ids, waiting, turn = itertools.count(1), {}, threading.Lock()


def request(method, **params):
    with turn:
        number = next(ids)
        waiting[number] = method
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        wire.sendall(json.dumps(message).encode() + b"\n")


def beat():
    while True:
        time.sleep(0.5)
        request("provider.heartbeat")


request("provider.open", user=user, password=os.environ["CTI_PASSWORD"], application="desk.py", heartbeat_ms=1000)
for message in map(json.loads, lines):
    if message.get("method") != "event":
        method = waiting.pop(message["id"])
        if method != "provider.heartbeat":
            print(method, message.get("error", "ok"), flush=True)
        if method == "provider.open" and "result" in message:
            threading.Thread(target=beat, daemon=True).start()
            media = {"mode": "static", "ip": host, "port": 30000, "codecs": ["PCMU", "PCMA"]}
            request("device.open", device=device, media=media)
        continue
    event = message["params"]
    if event["type"] == "call.offering":
        request("call.answer" if places > 0 else "call.accept", leg=event["leg"]["leg"])
        places -= 1
