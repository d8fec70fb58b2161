"""What is made of a large catalogue is made once; what does not fit is made anew and said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from daogou.guide import Guide, kept
from daogou.guide.index import Index
from daogou.guide.kept import Kept
from daogou.guide.near import near_arrays, near_of
from daogou.guide.search import Base
from daogou.model import predict


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, Tensor]:
        self.asked += 1
        return {"numbers": torch.arange(3.0)}


def test_what_was_made_is_taken_until_it_is_altered_foreign_or_unfit(tmp_path: Path) -> None:
    make, here = Maker(), Kept(tmp_path / "kept", "a run")
    for _ in range(2):
        assert here.arrays("x", make, lambda _: True)["numbers"].tolist() == [0, 1, 2]
    assert make.asked == 1
    Kept(tmp_path / "kept", "another run").arrays("x", make, lambda _: True)
    here.arrays("x", make, lambda _: True)
    assert make.asked == 3
    here.arrays("x", make, lambda found: len(found["numbers"]) == 4)
    assert make.asked == 4
    file = tmp_path / "kept" / "x.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert here.arrays("x", make, lambda _: True)["numbers"].tolist() == [0, 1, 2]
    assert make.asked == 5
    file.unlink()
    here.arrays("x", make, lambda _: True)
    assert make.asked == 6


def test_processes_that_begin_at_once_do_not_spoil_what_they_keep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, here, save = Maker(), Kept(tmp_path / "kept", "a run"), kept.save_file

    def slowly(*given: object) -> None:
        save(*given)
        monkeypatch.setattr(kept, "save_file", save)
        here.arrays("x", make, lambda _: True)  # another is done before this one is

    monkeypatch.setattr(kept, "save_file", slowly)
    here.arrays("x", make, lambda _: True)
    assert make.asked == 2 and not caplog.text
    here.arrays("x", make, lambda _: True)
    assert make.asked == 2
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["x.safetensors"]


def test_a_disk_that_is_full_is_left_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: Path, *given: object) -> None:
        path.write_bytes(b"as much as there is room for")
        raise OSError("No space left on device")

    monkeypatch.setattr(kept, "save_file", full)
    Kept(tmp_path / "kept", "a run").arrays("x", Maker(), lambda _: True)
    assert "No space left" in caplog.text and not [*(tmp_path / "kept").iterdir()]


def test_arrays_whose_fit_cannot_even_be_asked_are_made_anew(tmp_path: Path) -> None:
    make, here = Maker(), Kept(tmp_path / "kept", "a run")
    here.arrays("x", make, lambda _: True)
    wider = torch.zeros(7)  # as if another release had made what is kept
    here.arrays("x", make, lambda found: torch.allclose(found["numbers"], wider))
    assert make.asked == 2


def test_an_index_is_not_taken_whose_terms_weigh_otherwise_now(
    guide: Guide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Kept(tmp_path / "kept", "a run")
    old = Base(guide.catalogue, here).postings
    monkeypatch.setattr("daogou.guide.search._K1", 2.0)
    new = Base(guide.catalogue, here).postings
    assert not np.allclose(old.weights, new.weights)
    assert np.array_equal(new.weights, Base(guide.catalogue).postings.weights)


def test_where_nothing_can_be_written_it_is_made_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_text("a file")
    make, here = Maker(), Kept(tmp_path / "kept", "a run")
    for _ in range(2):
        here.arrays("x", make, lambda _: True)
    assert make.asked == 2
    assert "made anew each time" in caplog.text


def test_a_guide_of_a_large_catalogue_begins_with_what_the_one_before_made(
    made_run: Path, guide: Guide, regular: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = guide.catalogue.name(1)
    wanted = [guide.recommend(regular), guide.search(words, regular)]
    monkeypatch.setattr(kept, "LEAST", 1)
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    first = Guide.load(run, new_id=guide.new_id)
    first.warm()
    assert sorted(path.name for path in (run / "kept").iterdir()) == [
        "postings.safetensors",
        "vectors.safetensors",
    ]
    whole = predict.item_vectors

    def some(model: object, store: object, rows: object = None) -> Tensor:
        assert rows is not None, "all are encoded again"
        return whole(model, store, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(predict, "item_vectors", some)
    again = Guide.load(run, new_id=guide.new_id)
    monkeypatch.setattr("daogou.guide.search.fit_postings", None)
    for one in (first, again):
        assert [one.recommend(regular), one.search(words, regular)] == wanted


def test_vectors_that_the_model_does_not_give_are_made_anew(
    made_run: Path, guide: Guide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LEAST", 1)
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    found = kept.kept_of(Guide.load(run).artifact)
    assert guide.scorer.vectors is not None and found.folder is not None
    shutil.rmtree(found.folder)
    wrong = {"items": guide.scorer.vectors + 0.01}
    found.arrays("vectors", lambda: wrong, lambda _: True)
    again = Guide.load(run)
    assert again.scorer.vectors is not None
    torch.testing.assert_close(again.scorer.vectors, guide.scorer.vectors, atol=1e-6, rtol=0)


def test_cells_come_back_as_they_were(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    queries, here = vectors[:20] * 3, Kept(tmp_path, "a run")
    indices = [Index(vectors).in_cells(queries, least=1, kept=here) for _ in range(2)]
    (one, _), (other, _) = (index.nearest(queries, 7) for index in indices)
    assert torch.equal(one, other)
    cells = indices[0].cells
    assert cells is not None
    back = near_of(near_arrays(cells.near))
    assert (back.probes, back.recall, back.n) == (cells.near.probes, cells.near.recall, 400)
    assert np.array_equal(back.scale.numpy(), cells.near.scale.numpy())
    fewer = Index(vectors[:300]).in_cells(queries, least=1, kept=here)  # is not what is kept
    assert fewer.cells is not None and fewer.cells.near.n == 300
