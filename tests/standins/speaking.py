"""W&B's protocol spoken by hand: what a client would send, without a client."""

import http.client
import json
from urllib.parse import quote

UPSERT = """
mutation UpsertBucket($name: String, $project: String, $entity: String, $config: JSONString, $tags: [String!],
    $displayName: String, $groupName: String, $summaryMetrics: JSONString, $state: String) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, config: $config, tags: $tags,
      displayName: $displayName, groupName: $groupName, summaryMetrics: $summaryMetrics, state: $state}) {
    bucket { id name displayName config historyLineCount project { id name entity { name } } }
    inserted
  }
}
"""
RUN = """
query Run($name: String!, $project: String, $entity: String) {
  project(name: $project, entityName: $entity) {
    run(name: $name) {
      id state config summaryMetrics historyKeys historyLineCount tags displayName stopped
      history(samples: 100000)
    }
  }
}
"""
RUNS = """
query Runs($project: String!, $entity: String!, $filters: JSONString, $order: String, $cursor: String,
    $first: Int) {
  project(name: $project, entityName: $entity) {
    runCount(filters: $filters)
    runs(filters: $filters, order: $order, after: $cursor, first: $first) {
      edges { node { name } cursor }
      pageInfo { endCursor hasNextPage }
    }
  }
}
"""


class Speaker:
    """One client of a W&B stand-in, for the runs of one project."""

    def __init__(self, port, entity="team", project="demo"):
        self.port, self.entity, self.project = port, entity, project

    def ask(self, method, path, body=None, headers=None):
        """The status and the body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def graphql(self, query, name=None, /, **variables):
        """The answer to a document, errors and all."""
        variables = {"project": self.project, "entity": self.entity, **variables}
        body = json.dumps({"query": query, "variables": variables, "operationName": name})
        status, answer = self.ask("POST", "/graphql", body)
        assert status == 200, answer
        return json.loads(answer)

    def data(self, query, **variables):
        """The data of an answer without errors."""
        answer = self.graphql(query, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    def begin(self, name, **variables):
        """Make a run, or go on with one."""
        return self.data(UPSERT, name=name, **variables)["upsertBucket"]

    def path(self, run, name):
        return f"/files/{self.entity}/{self.project}/{run}/{quote(name)}"

    def stream(self, run, body, **headers):
        """Post to a run's file stream. Returns the status."""
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.ask("POST", self.path(run, "file_stream"), text, headers)[0]

    def log(self, run, rows, offset=0, **headers):
        """Post rows of history, the first of which has this number."""
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        chunk = {"offset": offset, "content": lines}
        status = self.stream(run, {"files": {"wandb-history.jsonl": chunk}}, **headers)
        assert status == 200

    def run(self, name):
        """A run with its whole history, JSON read; None if there is none."""
        run = (self.data(RUN, name=name)["project"] or {}).get("run")
        if run:
            run["history"] = [json.loads(row) for row in run["history"]]
            run["config"], run["summary"] = json.loads(run["config"]), json.loads(run["summaryMetrics"])
        return run

    def runs(self, filters=None, order=None):
        """The names of the runs that fit."""
        variables = {"filters": json.dumps(filters or {}), "order": order, "first": 1000}
        project = self.data(RUNS, **variables)["project"]
        assert project["runCount"] == len(project["runs"]["edges"])
        return [edge["node"]["name"] for edge in project["runs"]["edges"]]
