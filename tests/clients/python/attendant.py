"""An attendant on the client that `orpc` makes of the document: answers one call and leaves when it ends. Everything that
the server says is held against the document's schemas.

usage: attendant.py openrpc.json URL CA.pem USER DEVICE MEDIA-ADDRESS MEDIA-PORT     (the password is in $CTI_PASSWORD)
"""
import asyncio, json, os, ssl, sys

import jsonschema
from cti_protocol_of_ctimanager_ws_client import models
from cti_protocol_of_ctimanager_ws_client.client import CTIProtocolOfCtimanagerClient
from jsonrpc2pyclient.wsclient import AsyncRPCWSClient

path, url, ca, user, device, ip, port = sys.argv[1:8]
document = json.load(open(path, encoding="utf-8"))
results = {method["name"]: method["result"]["schema"] for method in document["methods"]}
events = {event["name"]: event["schema"] for event in document["x-events"] + document["x-connection-events"]}


def tell(what, about=None):
    print(json.dumps({"what": what, "about": about}), flush=True)


def hold(schema, value):
    """The references of a schema lead into the document's components."""
    whole = {"$schema": "http://json-schema.org/draft-07/schema#", "components": document["components"], "allOf": [schema]}
    jsonschema.Draft7Validator(whole, format_checker=jsonschema.FormatChecker()).validate(value)


class Transport(AsyncRPCWSClient):
    """The library's own, which knows no notifications, with a queue for the events."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.events = asyncio.Queue()
        self.methods = {}

    async def call(self, method, params=None, **kwargs):
        result = await super().call(method, params, **kwargs)
        hold(results[method], result)
        return result

    async def _receive_messages(self):
        async for text in self.websocket:
            message = json.loads(text)
            if message.get("method") == "event":
                await self.events.put(message["params"])
            else:
                self._responses[message["id"]] = message
                self._message_resolvers.pop(message["id"]).set()
        await self.events.put(None)


async def main():
    client = CTIProtocolOfCtimanagerClient({}, url)
    transport = Transport(url, {}, ssl=ssl.create_default_context(cafile=ca))
    client.transport = transport
    for group in (client.provider, client.device, client.call, client.line, client.rpc):
        group.transport = transport
    await client.connect()
    opened = await client.provider.open(user, "attendant.py", password=os.environ["CTI_PASSWORD"])
    tell("opened", {"session": opened.session, "heartbeat": opened.heartbeat_ms})
    listed = await client.provider.devices(type="route_point")
    tell("devices", [[one.name, [line.dn for line in one.lines]] for one in listed.devices])
    media = {"mode": "static", "ip": ip, "port": int(port), "codecs": ["PCMU"]}
    mine = await client.device.open(device, media=media)
    tell("ready", mine.device.name)
    try:
        await client.device.open(device)
    except Exception as refused:
        tell("refused", refused.rpc_error.data["cti"])
    while (event := await transport.events.get()) is not None:
        hold(events[event["type"]], event)
        tell("event", event["type"])
        # The document's events are classes, too.
        typed = "".join(word.title() for word in event["type"].replace("_", ".").split(".")) + "Event"
        event = getattr(models, typed).model_validate(event)
        if isinstance(event, models.CallOfferingEvent):
            tell("answered", await client.call.answer(event.leg.leg, idem="answer-1"))
        elif isinstance(event, models.CallConnectedEvent):
            await client.call.set_user_data(event.leg.leg, {"greeted": "yes"})
            tell("greeted", event.leg.calling.number)
        elif isinstance(event, models.CallDisconnectedEvent):
            break
    discovered = await client.rpc.discover()
    tell("discovered", discovered == document)
    await client.provider.close()
    tell("closed")


asyncio.run(main())
