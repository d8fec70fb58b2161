"""A text encoder from a local folder: a tiny random one, made here."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou.artifact import load
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError, MissingExtra
from daogou.features.subwords import PIECES, SubWords, open_subwords
from daogou.guide import Guide
from daogou.learn.fit import fit
from daogou.learn.settings import settings_of
from daogou.model.subwords import SubWordEncoder

transformers = pytest.importorskip("transformers", reason="needs the extra hf")
tokenizers = pytest.importorskip("tokenizers", reason="needs the extra hf")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*SPECIAL, "red", "dark", "boot", "##s", "250", "##ml", "-", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "bert"
    words = [*WORDS, *(f"##{letter}" for letter in "abcdefghijklmnopqrtuvwxyz")]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token"], SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=40,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def numbers(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def opened(shop: Path, folder: Path, **settings: Any) -> SubWords:
    lines = [f"text.encoder={folder}", *(f"text.{k}={v}" for k, v in settings.items())]
    found = open_subwords(read_shop(shop, lines))
    assert found is not None
    return found


def test_a_token_meets_the_sub_words_that_overlap_it(shop_folder: Path, bert: Path) -> None:
    found = opened(shop_folder, bert).encode(["Dark-red boots 250ml", "", "red"], 8)
    ids = numbers("[CLS]", "dark", "-", "red", "boot", "##s", "250", "##ml", "[SEP]")
    assert (found[0, :, :PIECES].ravel()[: len(ids) + 1] - 1).tolist() == [*ids, -1]
    assert found[0, :, PIECES:].tolist() == [
        [1, 2], [2, 3], [3, 4], [4, 6], [6, 7], [7, 8], [0, 0], [0, 0],
    ]  # fmt: skip
    assert not found[1].any()
    (half,) = opened(shop_folder, bert).encode(["\ud83d red"], 2)  # what UTF-8 cannot say
    assert half[0, 1] - 1 == WORDS.index("red") and half[:, PIECES:].tolist() == [[0, 0], [1, 2]]
    # More sub-words than there is room for: one token has four places, two of them for the ends.
    (cut,) = opened(shop_folder, bert).encode(["bootsss"], 2)
    assert (cut[0, :PIECES] - 1).tolist() == numbers("[CLS]", "boot", "##s", "[SEP]")
    assert cut[:, PIECES:].tolist() == [[1, 3], [0, 0]]


def test_a_token_s_state_is_the_mean_of_its_sub_words(shop_folder: Path, bert: Path) -> None:
    given = opened(shop_folder, bert)
    encoder = SubWordEncoder(given, 6).train()  # a frozen one does not drop anything even so
    rows = torch.from_numpy(given.encode(["dark boots", "", "red red red"], 4).astype(np.int64))
    found = encoder(rows)
    network = transformers.BertModel.from_pretrained(bert).eval()
    ids = torch.tensor([numbers("[CLS]", "dark", "boot", "##s", "[SEP]")])
    states = network(input_ids=ids).last_hidden_state[0]
    expected = encoder.out(torch.stack([states[1], states[2:4].mean(0)]))
    torch.testing.assert_close(found[0, :2], expected)
    assert not found[1].any() and not found[0, 2:].any()
    torch.testing.assert_close(encoder(rows[:1, :2]), found[:1, :2])  # as it reads alone
    assert list(encoder.state_dict()) == ["out.weight"]


@pytest.mark.parametrize("tune", [False, True])
def test_a_shop_is_fitted_with_an_encoder_and_reads_alike_when_loaded(
    shop_folder: Path, bert: Path, tmp_path: Path, tune: bool
) -> None:
    run, mine = tmp_path / "run", tmp_path / "bert"
    shutil.copytree(bert, mine)
    lines = [f"text.encoder={mine}", f"text.tune={str(tune).lower()}", "fit.epochs=1"]
    shop = read_shop(shop_folder, [*lines, "fit.encoder_learning_rate=0.01"])
    fit(shop, run)
    guide = Guide.load(run)
    title = guide.catalogue.name(1)
    found = guide.extract(title)
    assert Guide.load(run).extract(title) == found
    text = load(run).model.text
    assert text is not None and text.subwords is not None
    assert (text.subwords.tuned is not None) == tune
    start = transformers.BertModel.from_pretrained(bert).state_dict()
    if text.subwords.tuned is not None:
        ours = text.subwords.tuned.state_dict()
        assert any(not torch.equal(ours[name], weight) for name, weight in start.items())
    # What the encoder says reaches the answers.
    states = text(torch.from_numpy(np.array(guide.artifact.store["texts/tokens"][1:3], "i8")))[0]
    torch.nn.init.zeros_(text.subwords.out.weight)
    without = text(torch.from_numpy(np.array(guide.artifact.store["texts/tokens"][1:3], "i8")))[0]
    assert not torch.allclose(states, without)
    (mine / "config.json").write_text((mine / "config.json").read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"config.json: altered since .*restore the folder or"):
        load(run)
    shutil.rmtree(mine)
    with pytest.raises(ArtifactError, match=r"the run's text.encoder is gone; bring it back"):
        load(run)


def test_a_folder_that_will_not_do_is_refused_with_what_to_do(
    shop_folder: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "bert"
    shop = read_shop(shop_folder, [f"text.encoder={mine}"])
    with pytest.raises(ConfigError, match=r"text.encoder: \S+: no such folder; give one that is"):
        settings_of(shop)
    shutil.copytree(bert, mine)
    reads = read_shop(shop_folder, [f"text.encoder={mine}", "fit.pretrain_epochs=1"])
    with pytest.raises(ConfigError, match=r"fit.pretrain_epochs: text.encoder has read already"):
        settings_of(reads)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtra, match=r"transformers: .* pip install 'daogou\[hf\]'"):
            settings_of(shop)
    (mine / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"AutoTokenizer cannot read it .*with save_pretrained"):
        opened(shop_folder, mine).encode(["red"], 2)
    (mine / "model.safetensors").rename(mine / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pickled weights, which can run code; save it again"):
        settings_of(shop)
    (mine / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"no config.json; give a Hugging Face folder"):
        settings_of(shop)
