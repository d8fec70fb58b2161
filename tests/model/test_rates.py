"""A product's counted rates: those of the other folds in training, of all of it elsewhere."""

import torch

from daogou.features.store import FOLDS
from daogou.model.rates import Rates


def test_training_reads_the_counts_of_the_other_folds_and_serving_those_of_all() -> None:
    rates = Rates(3, 1, id_dropout=0.0)
    known = torch.arange(6.0).view(3, 2)
    rates.fill(known, torch.stack([known + 10 * (1 + k) for k in range(FOLDS)]), torch.ones(2, 2))
    ids, folds = torch.tensor([2, 0, 2]), torch.tensor([0, 1, 4])
    rates.train()
    assert rates(ids, folds).tolist() == [[14, 15], [20, 21], [54, 55]]
    rates.eval()
    assert rates(ids, None).tolist() == [[4, 5], [0, 1], [4, 5]]


def test_some_ids_are_forgotten_in_training_so_that_new_products_are_known() -> None:
    torch.manual_seed(0)
    rates = Rates(2, 1, id_dropout=0.5)
    known = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    rates.fill(known, known.expand(FOLDS, 2, 2).clone(), torch.ones(2, 2))
    ids = torch.ones(1000, dtype=torch.int64)
    assert 0.4 < rates(ids, torch.zeros_like(ids)).mean() < 0.6
    assert (rates.eval()(ids, None) == 1).all()


def test_only_what_all_of_training_counted_is_kept_with_the_weights() -> None:
    assert list(Rates(3, 2).state_dict()) == ["known"]
