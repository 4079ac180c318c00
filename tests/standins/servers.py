"""A W&B stand-in in a process of its own, which can be killed."""

import signal
import subprocess
import sys

from labgate.standins.wandb import Wandb


class Process:
    """`python -m labgate.standins.wandb` on one store; a restart keeps the port."""

    def __init__(self, store):
        self.store, self.port = store, 0
        self.restart()

    def restart(self):
        command = [
            sys.executable,
            "-m",
            "labgate.standins.wandb",
            "--store",
            self.store,
            "--port",
            str(self.port),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])

    def env(self):
        return {**Wandb().env(), "WANDB_BASE_URL": self.url}

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def end(self):
        """Ask it to end. Returns its status."""
        self._process.terminate()
        status = self._process.wait(20)
        self._process.stdout.close()
        return status
