#!/usr/bin/env python3
"""A worker for tasks of a type of one's own, with nothing but Python's standard library.

    NABU=http://127.0.0.1:8888 TASK_TYPE=resize python3 docs/examples/worker.py

It claims tasks, one after the other, and does what resize() does with their input. With
OS_TOKEN it shows that token, for a proxy before nabu that asks Keystone about it; without,
it says itself that it is a service, as nabu by itself lets it. It stops at SIGTERM, and
gives back what it has begun.
"""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid

NABU = os.environ.get("NABU", "http://127.0.0.1:8888")
QUEUE = "/v2/queues/tasks." + os.environ.get("TASK_TYPE", "resize")
TTL = 60  # seconds that a claim lives: the least that there is
RENEW = TTL / 3  # seconds between two renewals
WAIT = 20  # seconds that a claim waits for a task: the most, by default
NAME = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"  # no other worker's
CLIENT = str(uuid.uuid4())

stopped = threading.Event()


class Gone(Exception):
    """The task is not this worker's any more."""


class BadInput(Exception):
    """The user can mend it: the text is for him."""


def call(method, path, body=None, request_id=None, timeout=WAIT + 30):
    """Makes one request. Returns status, headers and what was answered."""
    headers = {"Client-ID": CLIENT, "Accept": "application/json", "Content-Type": "application/json"}
    if "OS_TOKEN" in os.environ:
        headers["X-Auth-Token"] = os.environ["OS_TOKEN"]
    else:
        headers.update({"X-Project-Id": "service", "X-Roles": "service"})
    if request_id:
        headers["X-Openstack-Request-Id"] = request_id
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(NABU + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode(errors="replace")


def insist(method, path, body=None, request_id=None):
    """Makes a request until there is an answer that will not change by asking again."""
    pause = 0.5
    while True:
        try:
            status, headers, answer = call(method, path, body, request_id)
            if status != 429 and status < 500:
                return status, headers, answer
            problem = f"{status} {answer}"
        except (OSError, ValueError) as error:  # no answer, or half of one
            problem = error
        if stopped.is_set():  # whatever is claimed is free again when the claim is over
            raise SystemExit(f"{method} {path}: {problem}")
        print(f"{method} {path}: {problem}; again in {pause} s", flush=True)
        time.sleep(pause)
        pause = min(2 * pause, 15)


class Task:
    """A task under a claim, which a thread renews until the end."""

    def __init__(self, claim, message):
        self.claim, self.message, self.its = claim, message["href"], message["body"]
        self.lost, self.over = threading.Event(), threading.Event()
        self.keeper = threading.Thread(target=self.keep, daemon=True)

    def keep(self):
        renewed = time.monotonic()
        while not self.over.wait(RENEW):
            asked = time.monotonic()
            try:
                status, _, _ = call("PATCH", self.claim, {"ttl": TTL, "grace": TTL}, timeout=RENEW / 2)
            except (OSError, ValueError):
                status = 0
            if status == 204:
                renewed = asked
            elif status == 404 or time.monotonic() - renewed > TTL * 0.9:
                self.lost.set()  # the claim is over, or soon will be: somebody else may begin
                return

    def report(self, action, **says):
        if self.lost.is_set():
            raise Gone("the claim is over")
        body = {action: {"worker": NAME, **says}}
        path = f"/v2/tasks/{self.its['task_id']}/action"
        status, _, answer = insist("POST", path, body, self.its.get("request_id"))
        if status in (404, 409):
            raise Gone(answer)
        if status != 202:  # the worker is wrong: it must be looked at
            raise SystemExit(f"{action}: {status} {answer}")

    def progress(self, message):
        """For the work to call now and then, about once a minute."""
        if stopped.is_set():
            raise InterruptedError
        self.report("progress", message=message)


def resize(wanted, progress):
    """The work. Returns the result, as the type promises it."""
    if wanted["size"] > 1000:
        raise BadInput("The size must not be above 1000 GiB.")
    for step in range(wanted["size"]):
        progress(f"{step} of {wanted['size']} GiB")
    return {"image_id": wanted["image_id"], "size": wanted["size"]}


def work(task):
    """Does one task, and tells what becomes of it."""
    task.keeper.start()
    try:
        task.report("begin")
        try:
            result = resize(task.its["input"], task.progress)
        except BadInput as error:
            task.report("fail", message=str(error))
        except (Gone, InterruptedError):
            raise
        except Exception as error:  # the inside is for the log and not for the user
            print(f"task {task.its['task_id']}: {error!r}", flush=True)
            task.report("fail", message="Task failed due to Internal Error")
        else:
            task.report("succeed", result=result)
        insist("DELETE", task.message)
    except Gone as why:  # clear up here what was made; the task may be another's by now
        print(f"task {task.its['task_id']} is not ours: {why}", flush=True)
        insist("DELETE", task.claim)
    except InterruptedError:
        insist("DELETE", task.claim)
    finally:
        task.over.set()
        task.keeper.join()


def is_task(body):
    return isinstance(body, dict) and "task_id" in body and "input" in body


def main():
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    while not stopped.is_set():
        path = f"{QUEUE}/claims?limit=1&wait={WAIT}"
        status, headers, answer = insist("POST", path, {"ttl": TTL, "grace": TTL})
        if status == 204:
            continue
        if status != 201:
            raise SystemExit(f"claim: {status} {answer}")
        message = answer["messages"][0]
        if is_task(message["body"]):
            work(Task(headers["Location"], message))
        else:  # somebody else's: it would only come again and again
            print(f"{message['href']} is no task", flush=True)
            insist("DELETE", message["href"])


if __name__ == "__main__":
    main()
