#!/usr/bin/env python3
"""The sample application of envoy/app.py as in an image: PORT and HOST set its address, SIGTERM ends it, and it answers /slow/N
after N seconds."""
import os
import re
import signal
import sys
import threading
import time

from app import Application, Server


class Slow(Application):
    def answer(self):
        found = re.fullmatch(r"/slow/([0-9]{1,2})", self.path)
        if found:
            time.sleep(int(found[1]))
        super().answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer


def main():
    server = Server((os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080"))), Slow)
    # PID 1 has no default signal handlers.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    sys.exit(0)


if __name__ == "__main__":
    main()
