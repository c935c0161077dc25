// An attendant on the client that @open-rpc/generator makes of the document: answers one call and leaves when it ends.
//
// usage: attendant.js HOST PORT USER DEVICE MEDIA-ADDRESS MEDIA-PORT     (the password is in $CTI_PASSWORD)
import Cti, { DeviceOpened, Leg } from "./generated/client/typescript/src/index";

const [host, port, user, device, ip, mediaPort] = process.argv.slice(2);

interface Notification {
  method: string;
  params: { seq?: number; type: string; leg?: Leg };
}

function tell(what: string, about: unknown): void {
  console.log(JSON.stringify({ what, about }));
}

async function main(): Promise<void> {
  const cti = new Cti({ transport: { type: "websocket", protocol: "wss://", host, port: Number(port), path: "/cti/v1" } });
  // Its own check looks for named params in the list of arguments, and finds none. The compiler has checked them.
  Object.assign(cti, { validator: { validate: () => [] } });
  let over: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (over = resolve));
  cti.onNotification((message: Notification) => {
    const { type, leg } = message.params;
    tell("event", type);
    const fail = (error: unknown) => {
      tell("failed", error);
      process.exit(1);
    };
    if (type === "call.offering" && leg) {
      cti["call.answer"](leg.leg, "answer-1").then((answer) => tell("answered", answer)).catch(fail);
    } else if (type === "call.connected" && leg) {
      cti["call.set_user_data"](leg.leg, { greeted: "yes" }).then(() => tell("greeted", leg.calling.number)).catch(fail);
    } else if (type === "call.disconnected") {
      over();
    }
  });

  const opened = await cti["provider.open"](user, "attendant.ts", process.env.CTI_PASSWORD);
  tell("opened", { session: opened.session, heartbeat: opened.heartbeat_ms });
  const listed = await cti["provider.devices"]("route_point");
  tell("devices", listed.devices.map((one) => [one.name, one.lines.map((line) => line.dn)]));
  const media = { mode: "static", ip, port: Number(mediaPort), codecs: ["PCMU"] } as const;
  const mine: DeviceOpened = await cti["device.open"](device, { ...media, codecs: [...media.codecs] });
  tell("ready", mine.device.name);
  try {
    await cti["device.open"](device);
    tell("failed", "a device that is open already was opened");
  } catch (error) {
    tell("refused", (error as { code: number; data: { cti: string } }).data.cti);
  }
  await ended;
  await cti["provider.close"]();
  tell("closed", null);
  process.exit(0);
}

main().catch((error) => {
  tell("failed", String(error?.message ?? JSON.stringify(error)));
  process.exit(1);
});
