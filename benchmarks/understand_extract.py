"""Extraction on public titles beside single-task baselines, and how many titles are read a second.

    python benchmarks/understand_extract.py SHOPS OUT [--only zh-ner oa-mine myntra speed]

SHOPS holds what ``daogou import`` wrote. Spans are beside a list of training values; values that
are read as classes beside TF-IDF with logistic regression, whose strictness is chosen by the
validation titles. OUT keeps the runs and gets ``extract.jsonl`` and ``extract.md``.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from real import DRAWS, HEADINGS, Bench, Line, Score, cells, oa_mine, zh_ner
from record import about, keep_line, show

from daogou.artifact import Artifact
from daogou.features.store import SPLITS
from daogou.features.tokens import tokenise
from daogou.guide import Guide
from daogou.metrics import bootstrap, macro_f1
from daogou.model import predict

STRICTNESS: Final = (1.0, 10.0, 100.0)  # sklearn's C: the inverse of the penalty
ROUNDS: Final = 5
TITLES: Final = 20_000  # of a round
BAR: Final = 10_000  # titles a second on two cores


def myntra(bench: Bench) -> list[Line]:
    """Every attribute of the test titles, in the title or not; titles are split, not products."""
    # The validation titles choose the rival's strictness, so they teach neither of the two.
    run = bench.run(bench.shops / "myntra", "myntra", "fit.refit=false")
    store, names = run.store, run.transform.values.names
    split = np.asarray(store["titles/split"])
    at = {name: np.flatnonzero(split == place) for place, name in enumerate(SPLITS)}
    ours = predict.title_values(run.model, store, at["test"])
    texts = store.titles["text"].to_pylist()
    rows = _counted(texts, at["train"])
    lines = []
    for place, name in enumerate(names):
        actual = np.asarray(store["titles/values"][:, place], dtype=np.int64)
        kept = {each: where[actual[where] >= 0] for each, where in at.items()}
        theirs = _linear(rows, actual, kept)
        known = actual[at["test"]] >= 0
        said = ours[place][known].argmax(1)
        lines.append(_judged(name, said, theirs, actual[kept["test"]], ours[place].shape[1]))
    return lines


def _counted(texts: Sequence[str], learnt: Any) -> Any:
    """TF-IDF ``[G, F]`` of titles' tokens and pairs of tokens, fitted on those to learn from."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(
        tokenizer=lambda text: [token.text for token in tokenise(text)],
        token_pattern=None, ngram_range=(1, 2), min_df=2, sublinear_tf=True,
    )  # fmt: skip
    reader.fit([texts[i] for i in learnt])
    return reader.transform(texts)


def _linear(rows: Any, actual: Any, kept: dict[str, Any]) -> Any:
    """The classes that the best of `STRICTNESS` gives the test titles."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    best, answer = -1.0, None
    for strictness in STRICTNESS:
        model = LogisticRegression(C=strictness, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows[kept["train"]], actual[kept["train"]])
        chosen = actual[kept["validation"]]
        score = macro_f1(model.predict(rows[kept["validation"]]), chosen, int(actual.max()) + 1)
        if score > best:
            best, answer = score, model.predict(rows[kept["test"]])
    return answer


def _judged(name: str, said: Any, theirs: Any, actual: Any, n_classes: int) -> Line:
    titles = np.arange(len(actual))

    def interval(statistic: Callable[[Any], float]) -> tuple[float, float]:
        return bootstrap(statistic, titles, n=DRAWS, seed=0)

    def score(answers: Any) -> Score:
        value = macro_f1(answers, actual, n_classes)
        return Score(value, *interval(lambda w: macro_f1(answers, actual, n_classes, w)))

    both = score(said), score(theirs)
    gap = interval(
        lambda w: macro_f1(said, actual, n_classes, w) - macro_f1(theirs, actual, n_classes, w)
    )
    difference = Score(both[0].value - both[1].value, *gap)
    return Line(
        "myntra", name, "macro F1", len(actual), len(np.unique(actual)), both[0], both[1],
        "TF-IDF, logistic", None, difference,
    )  # fmt: skip


def speed(bench: Bench) -> list[Line]:
    """Titles a second from text to answer, in batches, on the run of zh-ner.

    By the processor's time of one thread, which other work on the machine changes little, and by
    the clock with a thread for each core, which it does.
    """
    from real import SETTINGS

    run: Artifact = bench.run(bench.shops / "zh-ner", "zh-ner", *SETTINGS["zh-ner"])
    guide = Guide.of(run)
    known = run.store.titles["text"].to_pylist()
    # No title comes twice: answers that are kept would be counted as read.
    texts = [f"{known[i % len(known)]} {i}" for i in range(TITLES)]
    torch.set_num_threads(1)
    guide.extract_many(texts[:256])
    cores = os.cpu_count() or 1
    return [
        _rate(
            "titles / s of processor time, one thread", BAR // 2, time.process_time, guide, texts, 1
        ),
        _rate(f"titles / s, {cores} threads", BAR, time.perf_counter, guide, texts, cores),
    ]


def _rate(
    metric: str, bar: int, clock: Callable[[], float], guide: Guide, texts: list[str], threads: int
) -> Line:
    rates = []
    for _ in range(ROUNDS):
        started = clock()
        answers = guide.extract_many(texts, threads=threads)
        rates.append(len(texts) / (clock() - started))
        assert [answer["text"] for answer in answers] == texts
        assert sum(map(len, (answer["spans"] for answer in answers))) > len(texts)
    wanted = Score(float(bar), float(bar), float(bar))
    rate = Score(float(np.median(rates)), min(rates), max(rates))
    gap = Score(rate.value - bar, rate.low - bar, rate.high - bar)
    return Line("zh-ner", "reading", metric, TITLES, ROUNDS, rate, wanted, "bar", None, gap)


PARTS: Final[dict[str, Callable[[Bench], list[Line]]]] = {
    "zh-ner": zh_ner,
    "oa-mine": oa_mine,
    "myntra": myntra,
    "speed": speed,
}


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, judge it, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bench = Bench(given.shops, given.out, given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in given.only:
        for line in PARTS[name](bench):
            keep_line(given.out / "extract.jsonl", line)
            lines.append(line)
    told = about("understand_extract.py", arguments)
    title = f"`{told['command']}`, commit {told['commit']}, {told['cores']} cores"
    show(given.out / "extract.md", {title: (HEADINGS, [cells(line) for line in lines])}, 200)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
