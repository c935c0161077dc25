"""One of several instances of an application at one device: dynamic media, and patience, so that others go first.

usage: instance.py HOST:PORT CA.pem USER DEVICE NAME PATIENCE-MS PLACES RTP-PORT    (the password is in $CTI_PASSWORD)

It answers so many calls and lets those after them ring; whoever is more patient takes what still waits after his time.
"""
import itertools, json, os, socket, ssl, sys, threading

host, _, port = sys.argv[1].rpartition(":")
ca, user, device, name = sys.argv[2:6]
patience, places, rtp = (int(word) for word in sys.argv[6:9])

tls = ssl.create_default_context(cafile=ca)
wire = tls.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
lines = wire.makefile("r", encoding="utf-8", newline="\n")
ids, waiting, states, turn = itertools.count(1), {}, {}, threading.Lock()


def request(method, **params):
    with turn:
        number = next(ids)
        waiting[number] = method
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        wire.sendall(json.dumps(message).encode() + b"\n")


def later(task, *arguments):
    threading.Timer(patience / 1000, task, arguments).start()


def take(leg):
    global places
    if states.get(leg) in ("offering", "ringing"):
        request("call.answer" if places > 0 else "call.accept", leg=leg)
        places -= 1


def give_address(leg):
    request("call.set_media", leg=leg, ip=host, port=rtp)


request("provider.open", user=user, password=os.environ["CTI_PASSWORD"], application="instance.py", instance=name)
for message in map(json.loads, lines):
    if message.get("method") != "event":
        method, error = waiting.pop(message["id"]), message.get("error")
        print(method, error["data"]["cti"] if error else "ok", flush=True)
        if method == "provider.open" and not error:
            request("device.open", device=device, media={"mode": "dynamic", "codecs": ["PCMU", "PCMA"]})
        continue
    event = message["params"]
    if event["type"].startswith("call.") and isinstance(event.get("leg"), dict):
        leg, states[event["leg"]["leg"]] = event["leg"]["leg"], event["leg"]["state"]
        print(event["type"], leg, flush=True)
        if event["type"] == "call.offering":
            later(take, leg)
    elif event["type"] == "media.open_channel":
        leg = event["leg"]["leg"] if isinstance(event["leg"], dict) else event["leg"]
        print("media.open_channel", leg, flush=True)
        later(give_address, leg)
    elif event["type"] == "session.heartbeat":
        request("provider.heartbeat")
