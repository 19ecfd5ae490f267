"""A polling service as one writes it: deletes the newest thousand, sends them with Algolia's client, and commits.

Argument: the options as JSON. Works off what is there, prints the backend's process, waits for a line, works off what is
there then, and prints rows and seconds; ends with its input.
"""

import json
import sys
import time

import psycopg
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

options = json.loads(sys.argv[1])
config = SearchConfig(options["app"], options["key"])
config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=options["port"])])
client = SearchClientSync.create_with_config(config)
db = psycopg.connect(options["connection"])
# Prepares the statement at once, and not only when it comes for the fifth time.
db.prepare_threshold = 0
db.execute("SET synchronous_commit = off")

TAKE = """
    DELETE FROM polled_queue
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM polled_queue ORDER BY id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED))
    RETURNING record
"""


def work():
    rows = 0
    while True:
        taken = db.execute(TAKE).fetchall()
        if taken:
            requests = [{"action": "addObject", "body": json.loads(record)} for (record,) in taken]
            client.batch("polled", {"requests": requests})
        db.commit()
        if not taken:
            return rows
        rows += len(taken)


work()
print(db.info.backend_pid, flush=True)
sys.stdin.readline()
started = time.monotonic()
rows = work()
print(rows, time.monotonic() - started, flush=True)
sys.stdin.readline()
