"""A night: go on from yesterday's run, or fit in full, and serve the new run if it is no worse.

    python nightly.py RUN EVENTS OUT [SERVER KEY]

Exit code 0: OUT is the run to go on from tomorrow. 1: keep RUN, and read what was said. Each line
is a command that one could type, so that a night that failed can be finished by hand.
"""

import json
import subprocess
import sys
import urllib.request
from typing import Any


def daogou(*words: str) -> Any:
    """A command's document; its messages go where ours go."""
    done = subprocess.run(["daogou", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"daogou {' '.join(words)}: exit {done.returncode}; the run of before goes on")
    return json.loads(done.stdout)


def main(run: str, events: str, out: str, server: str = "", key: str = "") -> None:
    """One night; each run is judged on its own last days, and worse if its interval is below."""
    drift = daogou("drift", run, "--events", events, "--out", f"{out}.drift.html")
    print("drift:", drift["verdict"], file=sys.stderr)
    daogou("fit", "--from", run, "--events", events, "--out", out)
    before, after = (daogou("evaluate", each)["tasks"] for each in (run, out))
    for name, found in after.items():
        old, new = (each.get("auc_interval") for each in (before.get(name, {}), found))
        if old and new and None not in (*old, *new) and new[1] < old[0]:
            sys.exit(
                f"{name}: AUC {found['auc']:.4f}, before {before[name]['auc']:.4f}; {run} stays"
            )
    if server:
        asked = urllib.request.Request(
            f"{server}/v1/admin/reload", json.dumps({"run": out}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )  # fmt: skip
        urllib.request.urlopen(asked, timeout=60).close()
    print(json.dumps({"run": out, "in_full": drift["verdict"] != "go on"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
