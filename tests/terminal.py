"""A terminal to run programs on, and what is to be seen there"""

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pyte

LOOKS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE")
PATIENCE = 100_000  # bytes in which what is awaited has to come


class Terminal:
    """Programs write to it as standard error; `raw` is all that they wrote"""

    def __init__(self, columns=80, rows=24):
        self.master, self.slave = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns, rows)

    def resize(self, columns, rows):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        self.screen.resize(rows, columns)

    def run(self, argv, env=None, **options):
        """A program whose standard error it is, which nothing else holds open"""
        kept = {name: text for name, text in os.environ.items() if name not in LOOKS}
        env = {**kept, "TERM": "xterm", **(env or {})}
        pipe = subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "text": True, **options}
        process = subprocess.Popen(argv, stderr=self.slave, env=env, **options)
        os.close(self.slave)
        return process

    def until(self, *texts):
        """Read until all of that is on the screen at once"""
        begin = len(self.raw)
        while not all(text in self.text() for text in texts):
            goes_on = self._read() and len(self.raw) < begin + PATIENCE
            assert goes_on, f"{texts} not in:\n{self.text()}"

    def rest(self):
        """Read until the program has ended; the lines that it leaves"""
        while self._read():
            pass
        return [line for line in self.text().splitlines() if line]

    def text(self):
        """What is on the screen, with what was moved out of it"""
        above = [
            "".join(line[x].data for x in line) for line in self.screen.history.top
        ]
        return "\n".join(line.rstrip() for line in [*above, *self.screen.display])

    def _read(self):
        try:
            said = os.read(self.master, 65536)
        except OSError:  # EIO: no program has it open any more
            said = b""
        self.raw += said
        self._stream.feed(said)
        return said
