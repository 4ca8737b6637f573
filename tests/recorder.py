"""Code for a program under test: whom it looks up is printed, and refused."""

RECORDER = """
import sys, threading
def record(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None):
        print("asked for", arguments[0], flush=True)
        raise OSError("the network is cut off")
sys.addaudithook(record)
"""
"""Before the program's own code."""

WAIT = """
import time
end = time.monotonic() + 8
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(max(0.0, end - time.monotonic()))
"""
"""After it: reports are sent by threads."""
