"""What a shop's own server asks of Daogou's: tell what happened, ask what to show, go on without.

    python client.py http://127.0.0.1:8000 USER [KEY]

Standard library alone. An answer is never worth a page that does not load: whoever waits too long,
or finds nobody, shows what sells.
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any


class Daogou:
    """A server at ``url``; ``seconds`` is how long a page may wait for it."""

    def __init__(self, url: str, key: str | None = None, seconds: float = 0.3) -> None:
        self.url, self.key, self.seconds = url.rstrip("/"), key, seconds

    def recommend(self, user: str, best_sellers: list[str], k: int = 5) -> tuple[list[str], str]:
        """Products to show, and the id under which to tell what became of them."""
        try:
            answer = self._post("/v1/recommend", {"user": user, "k": k})
        except OSError as error:  # refused, too late, or an answer of 4xx or 5xx
            print(f"without Daogou: {error}", file=sys.stderr)
            return best_sellers[:k], ""
        return [each["item"] for each in answer["items"]], answer["request_id"]

    def tell(self, kind: str, user: str, item: str, request: str = "") -> bool:
        """Whether an event was kept; sent again under its id it counts once, so that is right."""
        event = {"event_id": str(uuid.uuid4()), "kind": kind, "user": user, "item": item}
        if request:
            event["request_id"] = request
        for wait in (0.1, 0.4, 1.6):
            try:
                return not self._post("/v1/events", {"events": [event]}).get("rejected")
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise  # what is wrong stays wrong
            except OSError:
                pass
            time.sleep(wait)
        return False

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        heads = {"Content-Type": "application/json"}
        if self.key:
            heads["Authorization"] = f"Bearer {self.key}"
        asked = urllib.request.Request(self.url + path, json.dumps(body).encode(), heads)
        with urllib.request.urlopen(asked, timeout=self.seconds) as answer:
            return json.load(answer)


def main(url: str, user: str, key: str | None = None) -> None:
    """One visit: a shelf, a click on its first product, and the shelf after it."""
    daogou = Daogou(url, key, seconds=10.0)
    shelf, request = daogou.recommend(user, best_sellers=["1", "2", "3"])
    print("shown:", *shelf)
    if request:
        print("kept:", daogou.tell("click", user, shelf[0], request))
        print("then:", *daogou.recommend(user, best_sellers=["1", "2", "3"])[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
