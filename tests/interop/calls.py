"""What every stack is asked to do, step by step, and how that is told.

A step is a whole call of its own. It prints `ok`, `fails: why`, or `not there` where the stack has no such thing. A step
that docs/sip.md says does not work is `known`: it may fail.
"""

from application import Application, Refused
from lab import Failed, Lab, Node, until

# Who is heard: each has a frequency of its own.
PHONE_HZ, OTHER_HZ, POINT_HZ, PORT_HZ = 500, 650, 800, 950
BUSY = 17


class Missing(Exception):
    """The stack has no such thing."""


class Phone:
    """A phone of a foreign stack with a number. What it can't is left as it is here."""

    def __init__(self, lab, node, number, tone_hz):
        self.lab, self.node, self.number, self.tone_hz = lab, node, number, tone_hz

    def _missing(self, *_):
        raise Missing

    # Whether its own voice can be judged here.
    is_heard = True

    # Each returns when it is done, or has been asked for where something else says when it is done.
    register = unregister = restart = _missing
    dial = rings = answer = refuse = hang_up = is_up = ends = _missing
    hold = resume = press = press_by_info = hears = _missing

    def clears(self):
        """Ends what is left of calls."""


class Steps:
    """Tells each step, and in the end whether all went as the table says."""

    def __init__(self, stack, known=()):
        self.stack, self.known, self.bad, self.after = stack, dict(known), 0, []
        print(f"# {stack}", flush=True)

    def take(self, name, step, *arguments):
        """Carries it out; whatever it leaves behind is cleared away afterwards."""
        try:
            step(*arguments)
            told = "ok, though the table says no" if name in self.known else "ok"
        except Missing as missing:
            told = f"not there{': ' if str(missing) else ''}{missing}"
        except Exception as failed:  # noqa: BLE001: a foreign stack may raise what it likes
            told = f"fails: {'' if isinstance(failed, Failed) else type(failed).__name__ + ': '}{failed}"
            if name in self.known:
                told += f" (known: {self.known[name]})"
            else:
                self.bad += 1
        print(f"{self.stack}: {name}: {told}", flush=True)
        for clear in self.after:
            try:
                clear()
            except Exception as failed:  # noqa: BLE001: what is left shows in the next step
                print(f"{self.stack}: afterwards: {failed}", flush=True)

    def end(self):
        """The exit status of the script."""
        print(f"# {self.stack}: {self.bad or 'none'} failed", flush=True)
        return 1 if self.bad else 0


class Scene:
    """A node, the applications at a route point and at a port, one that watches the phones, and two phones of the stack."""

    def __init__(self, lab, phone_class, steps, change=lambda config: None):
        self.lab, self.steps = lab, steps
        self.node = Node(lab, change)
        self.enter()
        self.phone = phone_class(lab, self.node, "2001", PHONE_HZ)
        self.other = phone_class(lab, self.node, "2002", OTHER_HZ)
        steps.after.append(self.clear)

    def enter(self):
        self.point = Application(self.lab, self.node, "RP_MAIN", POINT_HZ)
        self.port = Application(self.lab, self.node, "PORT_1", PORT_HZ)
        self.watch = Application(self.lab, self.node, "SEP2001")
        self.watch_other = Application(self.lab, self.node, "SEP2002")

    def applications(self):
        return self.point, self.port, self.watch, self.watch_other

    def clear(self):
        for phone in (self.phone, self.other):
            phone.clears()
        for application in self.applications():
            application.clears()
        try:
            self.node.is_quiet()
        except Failed as failed:
            self.steps.bad += 1
            print(f"{self.steps.stack}: afterwards: {failed}: {self.node.ask('calls')}", flush=True)

    def node_starts_again(self):
        for application in self.applications():
            application.leave()
        self.node.kill()
        self.node.start()
        self.enter()

    # The steps.

    def registers(self, transport="udp"):
        self.phone.register(transport)
        self.is_in_service("SEP2001")

    def is_in_service(self, device, wanted=True):
        def found():
            return any(one["name"] == device and one["registered"] is wanted for one in self.node.ask("devices"))

        until(f"{device} {'is' if wanted else 'is not'} registered", found)

    def leaves(self):
        self.phone.unregister()
        self.is_in_service("SEP2001", False)

    def is_heard_by(self, who, hertz):
        """The phone (or the other one) is, where its voice is to be heard at all."""
        if self.phone.is_heard:
            who.hears(hertz)

    def _talk(self):
        self.phone.dial("5000")
        leg = self.point.takes_call()
        self.phone.is_up()
        return leg

    def calls_point(self):
        leg = self._talk()
        self.phone.hears(POINT_HZ)
        self.is_heard_by(self.point, PHONE_HZ)
        self.phone.hang_up()
        self.point.hears_of("call.disconnected", leg=leg)

    def presses(self):
        leg = self._talk()
        self.is_heard_by(self.point, PHONE_HZ)
        for keys in ("1", "15", "15#"):
            self.phone.press(keys[-1])
            self.point.hears_keys(keys)
        self.point.ask("call.drop", leg=leg)
        self.phone.ends()

    def presses_by_info(self):
        leg = self._talk()
        for key in "7#":
            self.phone.press_by_info(key)
            told = self.point.hears_of("call.dtmf", leg=leg)
            if told["digit"] != key:
                raise Failed(f"pressed {key}, told {told['digit']}")
        self.point.ask("call.drop", leg=leg)
        self.phone.ends()

    def holds(self):
        leg = self._talk()
        self.is_heard_by(self.point, PHONE_HZ)
        self.phone.hold()
        self.point.hears_of("media.stopped", leg=leg, direction="output")
        self.phone.resume()
        self.point.speaks(leg)
        self.phone.hears(POINT_HZ)
        self.is_heard_by(self.point, PHONE_HZ)
        self.phone.hang_up()
        self.point.hears_of("call.disconnected", leg=leg)

    def _called(self):
        leg = self.port.calls("2001")
        self.phone.rings()
        self.port.hears_of("call.ringback", leg=leg)
        self.phone.answer()
        self.port.hears_of("call.connected", leg=leg)
        self.port.speaks(leg)
        return leg

    def is_called(self):
        leg = self._called()
        self.phone.hears(PORT_HZ)
        self.is_heard_by(self.port, PHONE_HZ)
        self.port.ask("call.drop", leg=leg)
        self.phone.ends()

    def is_held(self):
        leg = self._called()
        self.phone.hears(PORT_HZ)
        self.port.ask("call.hold", leg=leg)
        self.port.hears_of("call.held", leg=leg)
        self.port.voice.be_silent()
        self.port.ask("call.retrieve", leg=leg)
        self.port.hears_of("call.connected", leg=leg)
        self.port.speaks(leg)
        self.phone.hears(PORT_HZ)
        self.is_heard_by(self.port, PHONE_HZ)
        self.phone.hang_up()
        self.port.hears_of("call.disconnected", leg=leg)

    def refuses(self):
        leg = self.port.calls("2001")
        self.phone.rings()
        self.phone.refuse()
        told = self.port.hears_of("call.failed", leg=leg)
        if told["leg"]["cause"]["code"] not in (BUSY, 21):
            raise Failed(f"cause {told['leg']['cause']}")

    def does_not_answer(self):
        leg = self.port.calls("2001")
        self.phone.rings()
        self.port.ask("call.drop", leg=leg)
        self.phone.ends()

    def is_refused(self):
        self.phone.dial("5000")
        leg = self.point.hears_of("call.offering")["leg"]["leg"]
        self.point.ask("call.reject", leg=leg, cause=BUSY)
        self.phone.ends()

    def gives_up(self):
        self.phone.dial("5000")
        leg = self.point.hears_of("call.offering")["leg"]["leg"]
        self.point.ask("call.accept", leg=leg)
        self.point.hears_of("call.ringing", leg=leg)
        self.phone.hang_up()
        self.point.hears_of("call.disconnected", leg=leg)

    def calls_phone(self):
        self.other.register("udp")
        self.is_in_service("SEP2002")
        self.phone.dial("2002")
        self.other.rings()
        self.other.answer()
        self.watch.hears_of("call.connected")
        self.is_heard_by(self.phone, OTHER_HZ)
        self.is_heard_by(self.other, PHONE_HZ)
        self.phone.hang_up()
        self.other.ends()
        self.other.unregister()

    def holds_phone(self):
        self.other.register("udp")
        self.is_in_service("SEP2002")
        self.phone.dial("2002")
        self.other.rings()
        self.other.answer()
        self.watch.hears_of("call.connected")
        self.phone.is_up()
        self.phone.hold()
        # What it asks of the other end has been answered when it may be asked for the opposite.
        self.phone.resume()
        self.is_heard_by(self.phone, OTHER_HZ)
        self.is_heard_by(self.other, PHONE_HZ)
        self.other.hang_up()
        self.phone.ends()
        self.other.unregister()

    def starts_again(self):
        """A phone without power: a new Call-ID, and nothing of before."""
        self.phone.restart("udp")
        self.is_in_service("SEP2001")
        self.is_called()

    def is_reached_anew(self):
        """No connection of before is left: it is dialled at its Contact, or comes back by itself."""
        self.node_starts_again()
        self.is_in_service("SEP2001")
        self.is_called()


def whole_list(scene, transports):
    """The list; `transports` beside UDP."""
    take = scene.steps.take
    take("registers over UDP", scene.registers)
    take("calls a route point, both are heard", scene.calls_point)
    take("keys by RFC 4733", scene.presses)
    take("keys by INFO", scene.presses_by_info)
    take("holds and resumes", scene.holds)
    take("is called by an application", scene.is_called)
    take("is held by an application", scene.is_held)
    take("refuses", scene.refuses)
    take("does not answer", scene.does_not_answer)
    take("is refused (busy)", scene.is_refused)
    take("gives up", scene.gives_up)
    take("calls another phone, both are heard", scene.calls_phone)
    take("holds another phone and resumes", scene.holds_phone)
    take("starts again (new Call-ID)", scene.starts_again)
    take("de-registers", scene.leaves)
    for transport in transports:
        over = transport.upper()
        take(f"registers over {over}", scene.registers, transport)
        take(f"calls over {over}", scene.calls_point)
        take(f"is called over {over}", scene.is_called)
        take(f"is reached over {over} after the node's restart", scene.is_reached_anew)
        take(f"de-registers over {over}", scene.leaves)


def run(stack, phone_class, transports=(), known=(), more=lambda scene: None):
    """The whole script of a stack of phones; gives its exit status."""
    steps = Steps(stack, known)
    with Lab(stack.split()[0]) as lab:
        scene = Scene(lab, phone_class, steps)
        whole_list(scene, transports)
        more(scene)
        lab.is_kept |= bool(steps.bad)
    return steps.end()
