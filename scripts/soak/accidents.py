"""What goes wrong, at random times: of lsfast, its store, its standby and its applications.

Rough and calm times take turns. In a calm time lsfast is not ended, so that one life of it lasts long enough to be judged;
everything else goes on.
"""
import random
import shutil
import signal
import threading
import time


class Accidents:
    def __init__(self, world, journal, stop, cycle, rough):
        self.world, self.journal, self.stop, self.cycle, self.rough = world, journal, stop, cycle, rough
        self.begun = time.monotonic()

    def is_rough(self):
        return (time.monotonic() - self.begun) % self.cycle < self.rough

    def of_lsfast(self):
        chance = random.Random(f"{self.world.seed}/lsfast")
        while not self.stop.wait(chance.uniform(5, 25)):
            kinds = [self.reload, self.halt]
            if self.is_rough():
                kinds += [self.kill, self.kill, self.kill_and_forget, self.restart]
            chance.choice(kinds)(chance)

    def kill(self, chance, forget=False):
        with self.world.lock:
            self.world.end_lsfast(signal.SIGKILL)
            self.journal.count("lsfast killed")
            self.journal.note("lsfast killed" + (", and its notes on %s lost" % self.world.forget() if forget else ""))
            if forget:
                self.journal.count("local state of a database lost")
            self.stop.wait(chance.choice([0, 0, chance.uniform(0, 8)]))
            self.world.start_lsfast()

    def kill_and_forget(self, chance):
        self.kill(chance, forget=True)

    def restart(self, chance):
        with self.world.lock:
            open_since = self.world.gate.opened if self.world.gate.mode == "open" else time.monotonic()
            committed = [(d, d.last()) for d in self.world.databases]
            code = self.world.end_lsfast(signal.SIGTERM)
            self.journal.note(f"lsfast ended by SIGTERM: {code}")
            if code == 0:
                # It says that everything is stored.
                for database, n in committed:
                    for replica in database.replicas:
                        replica.stored(n)
                self.journal.count("lsfast ended by SIGTERM, exit code 0")
            else:
                self.journal.count("lsfast ended by SIGTERM in an outage")
                outage = self.world.gate.mode != "open" or self.world.gate.opened != open_since or time.monotonic() - open_since < 90
                if code != 1 or not outage:
                    self.journal.difference(f"lsfast ended by SIGTERM with {code}", self.journal.out / "lsfast.log")
            self.stop.wait(chance.choice([0, chance.uniform(0, 8)]))
            self.world.start_lsfast()

    def reload(self, chance):
        with self.world.lock:
            if time.monotonic() - self.world.begun < 5:
                return  # without its handler, the signal would end it
            self.world.write_config()
            self.world.lsfast.popen.send_signal(signal.SIGHUP)
        self.journal.count("config file read again (SIGHUP)")
        self.journal.note("SIGHUP")

    def halt(self, chance):
        with self.world.lock:
            self.world.lsfast.popen.send_signal(signal.SIGSTOP)
            self.stop.wait(chance.uniform(0.2, 6))
            self.world.lsfast.popen.send_signal(signal.SIGCONT)
        self.journal.count("lsfast halted (SIGSTOP)")

    def of_the_store(self):
        chance = random.Random(f"{self.world.seed}/store")
        while not self.stop.wait(chance.uniform(20, 100)):
            mode = chance.choice(["refuse", "hang", "busy", "deaf"])
            seconds = chance.choice([chance.uniform(0.5, 5), chance.uniform(5, 45)])
            self.world.gate.set(mode)
            self.stop.wait(seconds)
            self.world.gate.set("open")
            self.journal.count(f"outage: {mode}")
            self.journal.count("seconds of outages", int(seconds))
            self.journal.note(f"outage of {seconds:.1f} s: {mode}")

    def of_the_standby(self):
        chance = random.Random(f"{self.world.seed}/standby")
        while not self.stop.wait(chance.uniform(20, 150)):
            number = chance.choice([signal.SIGKILL, signal.SIGTERM])
            self.world.follower.popen.send_signal(number)
            self.world.follower.popen.wait(60)
            self.journal.count(f"standby ended by {number.name}")
            if chance.random() < 0.15:
                shutil.rmtree(self.world.standby.parent)
                self.world.standby.parent.mkdir()
                self.journal.count("standby begun from nothing")
            self.stop.wait(chance.uniform(0, 3))
            self.world.follower.log.unlink()
            self.world.start_standby()

    def of_the_applications(self):
        chance = random.Random(f"{self.world.seed}/applications")
        victims = [d for d in self.world.databases if d.load.get("killed")]
        while not self.stop.wait(chance.uniform(1, 12)):
            database = chance.choice(victims)
            worker = chance.randrange(len(database.apps))
            database.apps[worker].kill()
            self.journal.count("writer killed")
            self.stop.wait(chance.choice([0, chance.uniform(0, 3)]))
            database.apps[worker].log.unlink()
            self.world.start_app(database, worker)

    def threads(self):
        return [threading.Thread(target=t, name=t.__name__) for t in (
            self.of_lsfast, self.of_the_store, self.of_the_standby, self.of_the_applications)]
