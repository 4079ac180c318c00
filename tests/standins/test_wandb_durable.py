"""What was acknowledged is kept, whatever becomes of the server."""

import http.client
import threading
import time

from servers import Process
from speaking import Speaker


def test_a_server_that_is_killed_has_what_it_acknowledged(tmp_path):
    server = Process(tmp_path / "runs.db")
    speaker = Speaker(server.port)
    speaker.begin("r1")
    acknowledged = []

    def write():
        for number in range(100_000):
            try:
                speaker.log("r1", [{"_step": number, "a": number}], offset=number)
            except (OSError, http.client.HTTPException):
                return
            acknowledged.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(1)
    server.kill()
    writer.join()
    assert len(acknowledged) > 50
    server.restart()
    kept = [row["a"] for row in speaker.run("r1")["history"]]
    assert kept[: len(acknowledged)] == acknowledged and len(kept) <= len(acknowledged) + 1
    assert server.end() == 0


def test_a_server_that_is_told_to_end_leaves_one_file(tmp_path):
    server = Process(tmp_path / "runs.db")
    Speaker(server.port).begin("r1")
    assert server.end() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]
