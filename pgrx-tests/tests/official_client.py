"""Drives Algolia's own client against the hosts on the command line: app id, key, ports."""

import sys

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

app_id, key, *ports = sys.argv[1:]
config = SearchConfig(app_id, key)
config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=int(port)) for port in ports])
client = SearchClientSync.create_with_config(config)
INDEX = "official audit/log"

response = client.set_settings(
    INDEX, {"attributesForFaceting": ["searchable(action)", "filterOnly(team)"], "customRanking": ["desc(ts)"]}
)
client.wait_for_task(INDEX, response.task_id)
assert client.get_settings(INDEX).custom_ranking == ["desc(ts)"]

records = [
    {"objectID": f"r/{n}", "ts": 1700000000 + n, "action": "login" if n % 2 else "delete", "team": "red", "text": "x" * 900}
    for n in range(30)
]
responses = client.save_objects(INDEX, records, wait_for_tasks=True, batch_size=7)
assert [len(one.object_ids) for one in responses] == [7, 7, 7, 7, 2], responses

response = client.batch(
    INDEX,
    {
        "requests": [
            {"action": "addObject", "body": {"objectID": "extra", "ts": 1, "action": "logout"}},
            {"action": "partialUpdateObject", "body": {"objectID": "r/0", "team": "blue"}},
            {"action": "deleteObject", "body": {"objectID": "r/1"}},
        ]
    },
)
assert response.object_ids == ["extra", "r/0", "r/1"]
client.wait_for_task(INDEX, response.task_id)

seen = []
client.browse_objects(
    INDEX, lambda page: seen.extend(hit.object_id for hit in page.hits), {"hitsPerPage": 10}
)
assert len(seen) == 30 and seen[0] == "r/29" and seen[-1] == "extra", seen

found = client.search_single_index(INDEX, {"facets": ["*"], "filters": "ts > 1700000009 AND team:red"})
assert found.nb_hits == 20, found
assert found.facets == {"action": {"login": 10, "delete": 10}}, found.facets

several = client.search({"requests": [{"indexName": INDEX, "query": "logout"}, {"indexName": INDEX, "hitsPerPage": 0}]})
assert [one.actual_instance.nb_hits for one in several.results] == [1, 30], several

values = client.search_for_facet_values(INDEX, "action", {"facetQuery": "log", "maxFacetHits": 5})
assert [(one.value, one.count) for one in values.facet_hits] == [("login", 14), ("logout", 1)], values
values = client.search({"requests": [{"indexName": INDEX, "type": "facet", "facet": "action", "facetQuery": "del"}]})
assert values.results[0].actual_instance.facet_hits[0].highlighted == "<em>del</em>ete", values
marked = client.search_single_index(INDEX, {"query": "logout"}).hits[0]
assert marked.highlight_result["action"].actual_instance.value == "<em>logout</em>", marked

objects = client.get_objects(
    {"requests": [{"indexName": INDEX, "objectID": "r/0"}, {"indexName": INDEX, "objectID": "none"}]}
)
assert objects.results[0]["team"] == "blue" and objects.results[1] is None, objects
assert client.get_object(INDEX, "r/2")["action"] == "delete"

assert [one.name for one in client.list_indices().items] == [INDEX]
client.delete_objects(INDEX, ["r/2", "r/3"], wait_for_tasks=True)
response = client.delete_by(INDEX, {"filters": "action:login"})
client.wait_for_task(INDEX, response.task_id)
assert client.search_single_index(INDEX, {"query": ""}).nb_hits == 15

client.replace_all_objects(INDEX, [{"objectID": "only"}], batch_size=10)
assert client.search_single_index(INDEX, {"query": ""}).nb_hits == 1

response = client.delete_index(INDEX)
client.wait_for_task(INDEX, response.task_id)
assert not client.index_exists(INDEX)
