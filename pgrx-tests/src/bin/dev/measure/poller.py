"""A polling service as one writes it: claims the newest thousand, sends them with Algolia's client, deletes them.

Arguments: connection string, port of the stand-in, application id, key. Prints rows, seconds, processor seconds.
"""

import json
import resource
import sys
import time

import psycopg
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

connection, port, app_id, key = sys.argv[1:]
config = SearchConfig(app_id, key)
config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=int(port))])
client = SearchClientSync.create_with_config(config)
db = psycopg.connect(connection)
db.execute("SET synchronous_commit = off")
print(db.info.backend_pid, flush=True)
sys.stdin.readline()

started, rows = time.monotonic(), 0
while True:
    claimed = db.execute(
        "SELECT id, record FROM polled_queue ORDER BY index_id DESC, id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED"
    ).fetchall()
    if not claimed:
        break
    requests = [{"action": "addObject", "body": json.loads(record)} for _, record in claimed]
    client.batch("polled", {"requests": requests})
    db.execute("DELETE FROM polled_queue WHERE id = ANY(%s)", ([id for id, _ in claimed],))
    db.commit()
    rows += len(claimed)
seconds = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_SELF)
print(rows, seconds, used.ru_utime + used.ru_stime, flush=True)
sys.stdin.readline()
