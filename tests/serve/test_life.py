"""Runs that take one another's place, share users or watch: nobody who asks notices more."""

import dataclasses
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from daogou import artifact
from daogou.config import make
from daogou.errors import ArtifactError, ConfigError
from daogou.guide import Guide
from daogou.model.build import Shape
from daogou.serve.answerers import Answerers
from daogou.serve.limits import Limits
from daogou.serve.lineup import Lineup, Loaded, Rival, Who
from daogou.serve.meters import Meters
from daogou.serve.service import Service
from daogou.serve.shadow import agree
from daogou.serve.store import Store
from daogou.serve.things import Things
from daogou.serve.workers import Plan, Runs
from tests.serve.conftest import good, refused

KEPT = ("history_length", "settings", "fit", "returning", "prepared")


@pytest.fixture(scope="session")
def other_run(guide: Guide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made run with other weights: a run that another fit might have made."""
    folder, made = tmp_path_factory.mktemp("other") / "run", guide.artifact
    shutil.copytree(made.folder / "store", folder / "store")
    model = deepcopy(made.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.heads["funnel"].parameters():
            weight += 0.05 * torch.randn_like(weight)
    artifact.save(
        folder, shop=made.shop, transform=made.transform, model=model,
        shape=make("shape", Shape, made.manifest["shape"]),
        record={name: made.manifest[name] for name in KEPT},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def other(other_run: Path) -> Guide:
    """The other run, loaded once."""
    return Guide.load(other_run)


@pytest.fixture
def runs(
    service: Service, guide: Guide, other: Guide, monkeypatch: pytest.MonkeyPatch
) -> dict[Path, Guide]:
    """What is loaded from each folder; a test may put something else there."""
    found = {service.answerers.main.run: guide, other.artifact.folder: other}
    monkeypatch.setattr(Guide, "load", lambda run: found[run])
    return found


def named(guide: Guide) -> str:
    return str(guide.artifact.manifest["files"]["model.safetensors"])[:12]


class Stuck(dict[str, float]):
    """Weights of stages that nobody can read until they go on."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __getitem__(self, stage: str) -> float:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().__getitem__(stage)


def scores(answer: Any) -> dict[str, float]:
    return {line["item"]: line["score"] for line in answer["items"]}


def line_up(client: TestClient, *variants: tuple[Path, float], shadow: Path | None = None) -> Any:
    body = {
        "variants": [{"run": str(run), "share": share} for run, share in variants],
        "shadow": None if shadow is None else str(shadow),
    }
    return client.put("/v1/admin/lineup", json=body)


# ---- swaps --------------------------------------------------------------------------------


def test_no_request_fails_or_mixes_runs_while_they_are_swapped(
    client: TestClient, runs: dict[Path, Guide], guide: Guide
) -> None:
    user = next(iter(guide.artifact.store.user_rows))
    wanted = {named(each): scores(each.recommend(user, k=3)) for each in runs.values()}
    assert len(wanted) == 2
    ended = threading.Event()

    def ask() -> list[Any]:
        answers = []
        while not ended.is_set():
            answers.append(client.post("/v1/recommend", json={"user": user, "k": 3}))
        return answers

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for run in [*runs, *runs, *runs]:
            good(client.post("/v1/admin/reload", json={"run": str(run)}))
            good(client.post("/v1/recommend", json={"user": user, "k": 3}))
        ended.set()
        answers = [good(answer) for each in asking for answer in each.result()]
    assert {answer["variant"] for answer in answers} == set(wanted)
    for answer in answers:
        assert not answer["degraded"]
        assert scores(answer) == pytest.approx(wanted[answer["variant"]], abs=1e-6)


def test_an_answer_that_began_before_a_swap_is_its_own_run_s_to_the_end(
    client: TestClient, runs: dict[Path, Guide], guide: Guide, other: Guide, service: Service
) -> None:
    service.limits = Limits(timeout_s=60)
    stuck = Stuck(guide.weights)
    runs[service.answerers.main.run] = dataclasses.replace(guide, weights=stuck)
    good(client.post("/v1/admin/reload", json={}))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/v1/recommend", json={"user": "1", "k": 3})
        try:
            assert stuck.begun.wait(60)
            good(client.post("/v1/admin/reload", json={"run": str(other.artifact.folder)}))
        finally:
            stuck.go_on.set()
        found = good(waiting.result())
    assert not found["degraded"]
    assert found["variant"] == named(guide) != service.answerers.main.variant
    assert scores(found) == pytest.approx(scores(guide.recommend("1", k=3)), abs=1e-6)
    shown = service.store.request(found["request_id"])
    assert shown is not None and shown.variant == named(guide)


def test_a_rollback_gives_the_former_scores_and_again_the_later_ones(
    client: TestClient, runs: dict[Path, Guide], other: Guide, service: Service
) -> None:
    def shown() -> dict[str, float]:
        return scores(good(client.post("/v1/rank", json={"user": "1", "items": ["1", "2", "3"]})))

    before = shown()
    assert "no run has answered before" in refused(client.post("/v1/admin/rollback"), 422)
    good(client.post("/v1/admin/reload", json={"run": str(other.artifact.folder)}))
    after = shown()
    assert after != pytest.approx(before, abs=1e-4)
    runs.clear()  # it is kept in memory: nothing is loaded
    told = good(client.post("/v1/admin/rollback"))
    assert told["now"]["run"] == str(service.answerers.main.run) and shown() == before
    good(client.post("/v1/admin/rollback"))
    assert shown() == after
    roles = [each["role"] for each in good(client.get("/v1/models"))["models"]]
    assert roles == ["main", "former"]


def test_a_run_that_goes_back_has_the_products_that_were_written_meanwhile(
    client: TestClient, runs: dict[Path, Guide], other: Guide
) -> None:
    good(client.post("/v1/admin/reload", json={"run": str(other.artifact.folder)}))
    good(client.put("/v1/items/new", json={"fields": {"title": "red shoes"}}))
    good(client.post("/v1/admin/rollback"))
    found = good(client.post("/v1/rank", json={"user": "1", "items": ["new"]}))
    assert found["items"][0]["known"] is True


def test_a_run_whose_answers_are_not_its_own_is_not_served(
    client: TestClient, other_run: Path, service: Service, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other_run, copy)
    weights = service.answerers.main.run / "model.safetensors"
    shutil.copy(weights, copy / "model.safetensors")
    document = artifact.read_manifest(copy)
    document["files"]["model.safetensors"] = artifact.sha256(weights)
    document["digest"] = artifact._digest(document)
    artifact.write_document(copy / "manifest.json", document)
    message = refused(client.post("/v1/admin/reload", json={"run": str(copy)}), 422)
    assert "does not answer as when it was saved" in message and "answers of click" in message
    assert service.answerers.main.run != copy


# ---- shares -------------------------------------------------------------------------------


@pytest.fixture
def of_digest(service: Service) -> Callable[[str], Loaded]:
    """The made run, as if its weights had a digest."""

    def made(digest: str) -> Loaded:
        guide = service.answerers.main.guide
        manifest = {**guide.artifact.manifest, "files": {"model.safetensors": digest}}
        changed = dataclasses.replace(guide.artifact, manifest=manifest)
        offer = dataclasses.replace(
            service.answerers.main.offer, guide=dataclasses.replace(guide, artifact=changed)
        )
        return dataclasses.replace(service.answerers.main, offer=offer)

    return made


def test_users_are_split_by_their_names_alone_and_near_the_shares(
    of_digest: Callable[[str], Loaded],
) -> None:
    main, first, second = (of_digest(each) for each in "abc")
    lineup = Lineup(main, (Rival(first, 0.3), Rival(second, 0.2)))
    people = [Who(str(n)) for n in range(4000)]
    found = [lineup.of(who).digest for who in people]
    assert found == [lineup.of(who).digest for who in people]
    shares = [found.count(each) / len(people) for each in "abc"]
    # Three standard errors of a share are at most 0.024.
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.024)
    assert lineup.of(Who("7", "v1")) == lineup.of(Who("7"))
    assert {lineup.of(Who(None, f"v{n}")).digest for n in range(50)} == set("abc")


def test_a_larger_share_keeps_whom_it_had_and_another_run_gets_others(
    of_digest: Callable[[str], Loaded],
) -> None:
    def theirs(digest: str, share: float) -> set[int]:
        lineup = Lineup(of_digest("main"), (Rival(of_digest(digest), share),))
        return {n for n in range(2000) if lineup.of(Who(str(n))).digest == digest}

    small, large, another = theirs("b", 0.2), theirs("b", 0.4), theirs("c", 0.2)
    assert small < large
    # Independent groups: of 2,000 some 80 are in both, give or take 26.
    assert 50 < len(small & another) < 110


def test_shares_that_make_one_on_paper_are_taken(of_digest: Callable[[str], Loaded]) -> None:
    shares = (0.33, 0.56, 0.11)  # which floats add up to a little more
    rivals = [Rival(of_digest(each), share) for each, share in zip("abc", shares, strict=True)]
    lineup = Lineup(of_digest("main")).lined_up(rivals, None)
    assert next(lineup.described())["share"] == 0.0
    assert "main" not in {lineup.of(Who(str(n))).digest for n in range(500)}


def test_a_share_of_all_leaves_nobody_else(of_digest: Callable[[str], Loaded]) -> None:
    halves = Lineup(of_digest("a"), tuple(Rival(of_digest(each), 0.5) for each in "bc"))
    assert {halves.of(Who(str(n))).digest for n in range(500)} == {"b", "c"}


def test_each_user_is_answered_by_their_run_and_it_is_kept_with_what_was_shown(
    client: TestClient, runs: dict[Path, Guide], guide: Guide, other: Guide, service: Service
) -> None:
    told = good(line_up(client, (other.artifact.folder, 0.5)))["models"]
    assert [(each["role"], each["share"]) for each in told] == [("main", 0.5), ("variant", 0.5)]
    by_name = {named(each): each for each in (guide, other)}
    users = list(guide.artifact.store.user_rows)[:8]
    seen = set()
    for user in users:
        found = good(client.post("/v1/recommend", json={"user": user, "k": 2}))
        assert found["variant"] == service.answerers.lineup.of(Who(user)).variant
        assert scores(found) == pytest.approx(
            scores(by_name[found["variant"]].recommend(user, k=2)), abs=1e-6
        )
        shown = service.store.request(found["request_id"])
        assert shown is not None and shown.variant == found["variant"]
        seen.add(found["variant"])
    assert seen == set(by_name)
    lines = client.get("/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("daogou_shown_total{")]
    assert sum(float(line.split()[-1]) for line in counted) == len(users)
    assert f'daogou_model_share{{variant="{named(other)}"}} 0.5' in lines


def test_a_run_that_becomes_the_main_one_is_no_variant_any_more(
    client: TestClient, runs: dict[Path, Guide], other: Guide, service: Service
) -> None:
    good(line_up(client, (other.artifact.folder, 0.2)))
    good(client.post("/v1/admin/reload", json={"run": str(other.artifact.folder)}))
    assert service.answerers.lineup.rivals == () and service.answerers.main.guide is other


@pytest.mark.usefixtures("runs")
def test_a_lineup_that_cannot_be_is_refused_and_changes_nothing(
    client: TestClient, other_run: Path, made_run: Path, service: Service, tmp_path: Path
) -> None:
    before = service.answerers.lineup
    assert "shares [0.6, 0.6]" in refused(line_up(client, (other_run, 0.6), (made_run, 0.6)), 422)
    assert "which answers already" in refused(line_up(client, (made_run, 0.1)), 422)
    assert "which answers already" in refused(
        line_up(client, (other_run, 0.1), shadow=other_run), 422
    )
    assert "no such run" in refused(line_up(client, shadow=tmp_path / "nowhere"), 422)
    assert "greater than 0" in refused(line_up(client, (other_run, 0.0)), 422)
    assert service.answerers.lineup == before
    with pytest.raises(ConfigError, match="give each above 0"):
        before.lined_up([Rival(before.main, float("nan"))], None)


# ---- several processes ----------------------------------------------------------------------


def test_servers_of_a_group_follow_one_another_s_runs(
    runs: dict[Path, Guide], files_store: Store, service: Service, other: Guide
) -> None:
    made_run = service.answerers.main.run
    one, two, alone = (
        Answerers(made_run, files_store, Meters(), group=group) for group in ("a", "a", None)
    )
    try:
        other_run = other.artifact.folder
        one.reload(other_run)
        for each in (two, alone):
            each.look_about()
        assert two.main.guide is other and alone.main.run == made_run
        runs.clear()  # what was loaded is kept, here and there
        two.roll_back()
        one.look_about()
        assert one.main.run == made_run and one.lineup.former is not None
        runs |= {other_run: other, made_run: service.answerers.main.guide}
        one.line_up([(other_run, 0.3)], None)
        two.look_about()
        assert [each.share for each in two.lineup.rivals] == [0.3]
        assert two.lineup.of(Who("7")).run == one.lineup.of(Who("7")).run
        one.line_up([], None)
        one.reload(other_run)
        # One that begins late, with what the command named, answers as the others do by now.
        late = Answerers(made_run, files_store, Meters(), group="a")
        late.begin([(other_run, 0.5)], None)
        assert late.main.run == other_run and late.lineup.rivals == ()
        two.look_about()
        assert two.main.run == other_run, "and they do not answer as it began"
        late.close()
    finally:
        for each in (one, two, alone):
            each.close()


def test_a_server_follows_though_the_folder_of_a_run_that_it_holds_is_gone(
    runs: dict[Path, Guide], files_store: Store, service: Service, other: Guide,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made_run, other_run = service.answerers.main.run, other.artifact.folder
    one, two = (Answerers(made_run, files_store, Meters(), group="a") for _ in "ab")
    try:
        one.line_up([(other_run, 0.3)], None)
        two.look_about()
        wanted = two.lineup.named()
        runs.clear()

        def gone(run: Path) -> None:
            raise ArtifactError(f"{run}: no such run")

        monkeypatch.setattr("daogou.serve.answerers.read_manifest", gone)
        for each in wanted["variants"]:
            each["share"] = 0.5
        files_store.groups.want("a", wanted)
        two.look_about()
        assert [each.share for each in two.lineup.rivals] == [0.5]
        assert two.lineup.rivals[0].loaded.guide is other
        # A process begun in the place of another needs no run that only the command named.
        plan = Plan(Runs(Path("gone")), files_store.database.place, True, (), Limits(), "a")
        assert plan.runs_by_now(files_store) == Runs(made_run, [(other_run, 0.5)])
        alone = dataclasses.replace(plan, group=None)
        assert alone.runs_by_now(files_store) == plan.runs
    finally:
        one.close()
        two.close()


def test_a_run_that_another_server_cannot_load_is_told_and_changes_nothing_there(
    runs: dict[Path, Guide], files_store: Store, service: Service, other: Guide,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    one, two = (
        Answerers(service.answerers.main.run, files_store, Meters(), group="a") for _ in "ab"
    )
    try:
        one.reload(other.artifact.folder)
        runs.clear()
        two.look_about()
        assert two.main.run == service.answerers.main.run and "KeyError" in caplog.text
        runs[other.artifact.folder] = other
        two.look_about()
        assert two.main.run == service.answerers.main.run, "it is not tried all the time"
        monkeypatch.setattr("daogou.serve.answerers.AGAIN_S", 0.0)
        two.look_about()
        assert two.main.guide is other, "once the run can be loaded it is followed"
    finally:
        one.close()
        two.close()


def test_looks_at_a_store_that_is_slow_do_not_gather_before_a_change_of_runs(
    runs: dict[Path, Guide], service: Service, other: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun, looks = threading.Event(), threading.Event(), []

    def slow(_: Things) -> str:
        looks.append(1)
        begun.set()
        assert go_on.wait(60)
        return ""

    service.answerers._looking.result()  # the one that a server begins with
    monkeypatch.setattr(Things, "version", slow)
    try:
        for _ in range(50):
            service.answerers.look_about()
        assert begun.wait(60)
    finally:
        go_on.set()
    service.answerers.reload(other.artifact.folder)
    assert len(looks) == 2, "one look, and one of the run that is new"
    service.close()
    service.answerers.look_about()  # what looks about while a server ends is no fault
    assert len(looks) == 2


# ---- a shadow -----------------------------------------------------------------------------


def test_a_shadow_is_asked_the_same_and_it_is_told_how_far_it_agrees(
    client: TestClient, runs: dict[Path, Guide], guide: Guide, other: Guide, service: Service
) -> None:
    good(line_up(client, shadow=other.artifact.folder))
    users = list(guide.artifact.store.user_rows)[:3]
    for user in users:
        good(client.post("/v1/recommend", json={"user": user, "k": 4}))
    service.answerers.shadow.wait()
    pairs = [agree(guide.recommend(user, k=4), other.recommend(user, k=4)) for user in users]
    overlap, same, apart = (sum(each) / len(users) for each in zip(*pairs, strict=True))
    (shadow,) = (
        each for each in good(client.get("/v1/models"))["models"] if each["role"] == "shadow"
    )
    assert shadow["agreement"]["recommend"] == {
        "answers": 3, "failed": 0, "left_out": 0, "overlap": pytest.approx(overlap),
        "same_first": pytest.approx(same), "score_difference": pytest.approx(apart, abs=1e-6),
    }  # fmt: skip
    lines = client.get("/metrics").text.splitlines()
    assert 'daogou_shadow_total{kind="recommend",outcome="compared"} 3.0' in lines
    assert 'daogou_shadow_overlap_count{kind="recommend"} 3.0' in lines
    good(line_up(client))
    assert [each["role"] for each in good(client.get("/v1/models"))["models"]] == ["main"]


def test_a_shadow_that_fails_harms_no_answer_and_is_counted(
    client: TestClient, runs: dict[Path, Guide], other: Guide, service: Service
) -> None:
    runs[other.artifact.folder] = dataclasses.replace(other, weights={})
    good(line_up(client, shadow=other.artifact.folder))
    found = good(client.post("/v1/recommend", json={"user": "1", "k": 2}))
    assert not found["degraded"] and len(found["items"]) == 2
    service.answerers.shadow.wait()
    agreement = service.answerers.shadow.agreement()["recommend"]
    assert (agreement["failed"], agreement["answers"], agreement["overlap"]) == (1, 0, None)


def test_a_shadow_that_is_slow_is_not_waited_for_and_its_questions_do_not_gather(
    client: TestClient, runs: dict[Path, Guide], other: Guide, service: Service
) -> None:
    stuck = Stuck(other.weights)
    runs[other.artifact.folder] = dataclasses.replace(other, weights=stuck)
    good(line_up(client, shadow=other.artifact.folder))
    try:
        for _ in range(20):
            found = good(client.post("/v1/rank", json={"user": "1", "items": ["1", "2"]}))
            assert not found["degraded"]
    finally:
        stuck.go_on.set()
    service.answerers.shadow.wait()
    agreement = service.answerers.shadow.agreement()["rank"]
    assert (agreement["answers"], agreement["left_out"]) == (16, 4)
    assert agreement["overlap"] == 1.0


def test_a_shadow_is_compared_with_the_main_run_alone(
    client: TestClient, runs: dict[Path, Guide], guide: Guide, other: Guide, service: Service
) -> None:
    main = service.answerers.main
    service.answerers.lineup = dataclasses.replace(
        service.answerers.lineup, rivals=(Rival(main, 1.0),), shadow=main,
        main=dataclasses.replace(
            main, offer=dataclasses.replace(main.offer, run=other, guide=other)),
    )  # fmt: skip
    service.answerers.shadow.begin(service.answerers.lineup.pair)
    good(client.post("/v1/recommend", json={"user": "1", "k": 2}))
    service.answerers.shadow.wait()
    assert service.answerers.shadow.agreement() == {}


def test_an_answer_that_was_begun_before_a_swap_is_not_counted_for_the_runs_after_it(
    client: TestClient, runs: dict[Path, Guide], other: Guide, service: Service
) -> None:
    folder = other.artifact.folder
    good(line_up(client, shadow=folder))
    before = service.answerers.lineup.pair
    service.answerers.reload(folder)  # the shadow is the main run now, and has none
    former = service.answerers.lineup.former
    good(line_up(client, shadow=former.run if former else None))
    after = service.answerers.lineup.pair
    shown = {"items": [{"item": "1", "score": 0.5}]}
    for pair in (before, after):
        service.answerers.shadow.ask("rank", pair, shown, lambda: shown)
    service.answerers.shadow.wait()
    assert before != after
    assert service.answerers.shadow.agreement()["rank"]["answers"] == 1
