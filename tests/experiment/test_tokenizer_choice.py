"""One rule for capital letters, wherever a model lies; and a vocabulary that is not the model's is never silent."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.inputs.model import from_checkpoint, template_of
from experiment.inputs.tokenizer import describe_tokenizer, fitting_tokenizer, read_tokenizer
from experiment.options.flags import PredictOptions
from preprocess.base.errors import UsageError
from preprocess.template import TEMPLATES
from pretrained_configs import catalog
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for
from pretrained_configs.writer import write_checkpoint
from tests.support.vocabularies import write_unigram

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: Vocabularies by what they can hold.
UNCASED = [*SPECIALS, "北", "京", "nba", "##a", "é"]
CASED = [*SPECIALS, "北", "京", "NBA", "nba", "Beijing", "##a"]
NAMES = [*SPECIALS, "北", "京", *(f"word{letter}" for letter in "abcdefghijklmnop"), "iPhone"]
CHINESE = [*SPECIALS, "北", "京", "王", "五"]


def _config(n_rows: int) -> ModelConfig:
    return ModelConfig(n_rows, 8, 1, 2, 16, max_position_embeddings=32)


def _directory(place: Path, vocabulary: list[str], said: bool | None, **files: object) -> Path:
    """Write a vocabulary with a tokenizer_config.json that states the casing, if anything is said."""
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    if said is not None:
        files = {"tokenizer_config": {"do_lower_case": said}, **files}
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return place


# --- capital letters ----------------------------------------------------------------------------------------------

#: vocabulary, what the files say, what is done, what is said of it
CASINGS = {
    "no capital letters, the files lower-case": (UNCASED, True, True, "as tokenizer_config.json says"),
    "no capital letters, the files say cased": (
        UNCASED,
        False,
        True,
        "as the vocabulary has no capital letter, though tokenizer_config.json says otherwise",
    ),
    "no capital letters, nothing said": (UNCASED, None, True, "as the vocabulary has no capital letter"),
    "capital letters, the files lower-case": (CASED, True, True, "as tokenizer_config.json says"),
    "capital letters, the files say cased": (CASED, False, False, "as tokenizer_config.json says"),
    "capital letters, nothing said": (CASED, None, False, "as the vocabulary has capital letters"),
    "a name or two, nothing said": (NAMES, None, True, "as nothing says otherwise"),
    "a name or two, the files say cased": (NAMES, False, False, "as tokenizer_config.json says"),
    "no letters at all, nothing said": (CHINESE, None, True, "as nothing says otherwise"),
    "no letters at all, the files say cased": (CHINESE, False, False, "as tokenizer_config.json says"),
}


@pytest.mark.parametrize("case", CASINGS)
def test_casing_follows_the_vocabulary_and_the_files(tmp_path, case):
    vocabulary, said, lower, why = CASINGS[case]
    found = read_tokenizer(_directory(tmp_path / "x", vocabulary, said), None)
    assert found.tokenizer.options["do_lower_case"] is lower
    assert found.casing.startswith(f"casing: {'lower-cased' if lower else 'cased'}, {why}")
    for given in (True, False):
        found = read_tokenizer(tmp_path / "x", given)
        assert found.tokenizer.options["do_lower_case"] is given and "as --do_lower_case says" in found.casing


@pytest.mark.parametrize(
    "mark", [{"mrc_settings": {"task": "x"}}, {"config": {"architectures": ["BertForQuestionAnswering"]}}]
)
def test_fine_tuned_model_is_read_as_it_was_trained(tmp_path, mark):
    """Whoever trained with --do_lower_case False gets cased text in prediction, whatever the vocabulary is."""
    found = read_tokenizer(_directory(tmp_path / "x", UNCASED, False, **mark), None)
    assert found.tokenizer.options["do_lower_case"] is False
    assert "of the fine-tuned model" in found.casing


def test_pretrained_model_of_transformers_is_not_taken_for_a_fine_tuned_one(tmp_path):
    config = {"architectures": ["BertForMaskedLM"]}
    assert read_tokenizer(_directory(tmp_path / "x", UNCASED, False, config=config), None).tokenizer.options[
        "do_lower_case"
    ]


@pytest.mark.realdata
def test_the_published_chinese_vocabulary_is_lower_cased_whatever_the_hub_says(tmp_path, data_dir):
    """The hub's tokenizer_config.json of google-bert/bert-base-chinese; ABC would be [UNK] with it."""
    place = _directory(tmp_path / "x", CHINESE, False)
    shutil.copy(data_dir / "vocab" / "bert-base-chinese-vocab.txt", place / "vocab.txt")
    tokenizer = read_tokenizer(place, None).tokenizer
    assert tokenizer.special_ids["unk"] not in tokenizer.encode(["ABC, NBA, iPhone"]).ids
    assert tokenizer.options["do_lower_case"] is catalog.lookup("bert-base-chinese").do_lower_case


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache on a machine without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def _published(cache: Path, owner: str, name: str, vocabulary: list[str], said: bool | None) -> Path:
    """Put a model into the hub's cache, as the hub would."""
    repository = cache / f"models--{owner}--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    place = _directory(repository / "snapshots" / ("0" * 40), vocabulary, said)
    _weights(place, len(vocabulary))
    return place


def _weights(place: Path, n_rows: int) -> None:
    import numpy as np

    config, random = _config(n_rows), np.random.default_rng(0)
    shapes = parameter_shapes(config, pooled=True)
    ours = {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    write_checkpoint(place, config, ours, format_for(config, "transformers"))


@pytest.mark.parametrize(("vocabulary", "said"), [(UNCASED, False), (CASED, False), (CASED, None), (CHINESE, True)])
def test_hub_id_short_name_and_copy_are_read_alike(tmp_path, hub_cache, monkeypatch, vocabulary, said):
    """And a directory that is only called like a published model is what lies in it."""
    snapshot = _published(hub_cache, "google-bert", "bert-base-chinese", vocabulary, said)
    shutil.copytree(snapshot, tmp_path / "elsewhere" / "copy")
    options = PredictOptions(task="cmrc2018", model_name_or_path="x")
    names = ("google-bert/bert-base-chinese", "bert-base-chinese", str(tmp_path / "elsewhere" / "copy"))
    sources = [from_checkpoint(read_checkpoint(name), options) for name in names]
    assert len({source.tokenizer.fingerprint for source in sources}) == 1
    assert [source.published is not None for source in sources] == [True, True, False]
    shutil.copytree(snapshot, tmp_path / "elsewhere" / "bert-base-chinese")
    monkeypatch.chdir(tmp_path / "elsewhere")
    local = from_checkpoint(read_checkpoint("bert-base-chinese"), options)
    assert local.tokenizer.fingerprint == sources[0].tokenizer.fingerprint
    assert local.published is None and local.checkpoint.directory == Path("bert-base-chinese")


def test_stats_reads_capital_letters_as_training_does(tmp_path, capsys):
    """ "NBA" is one piece to a model that lower-cases, and three unknown ones or one to another."""
    place = _directory(tmp_path / "x", UNCASED, False)
    question = {"id": "1", "question": "北京", "answers": [{"text": "NBA", "answer_start": 2}]}
    article = {"title": "t", "id": "a", "paragraphs": [{"id": "a", "context": "北京NBA北京NBA", "qas": [question]}]}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"version": "v1.0", "data": [article]}, ensure_ascii=False), encoding="utf-8")
    command = ["stats", "--task", "cmrc2018", "--data_file", str(data), "--tokenizer_name", str(place)]
    assert main([*command, "--max_seq_length", "32"]) == 0
    assert "casing: lower-cased, as the vocabulary has no capital letter" in capsys.readouterr().out
    assert main([*command, "--max_seq_length", "32", "--do_lower_case", "False"]) == 0
    assert "casing: cased, as --do_lower_case says" in capsys.readouterr().out


def test_stats_measures_the_text_that_the_model_reads(tmp_path, capsys):
    """DRCD's conversion makes phrases shorter and longer: 內存 is a character less than 記憶體."""
    context = "臺灣的記憶體與原子筆說明"
    question = {"id": "1", "question": "記憶體?", "answers": [{"text": "記憶體", "answer_start": 3}]}
    article = {"title": "t", "id": "a", "paragraphs": [{"id": "a", "context": context, "qas": [question]}]}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"version": "v1.0", "data": [article]}, ensure_ascii=False), encoding="utf-8")
    place = _directory(tmp_path / "x", CHINESE, True)
    command = ["stats", "--task", "drcd", "--data_file", str(data), "--tokenizer_name", str(place)]
    longest = {}
    for conversion in ("tw2sp", "none"):
        assert main([*command, "--max_seq_length", "32", "--opencc_config", conversion]) == 0
        text = capsys.readouterr().out
        cells = next(line for line in text.splitlines() if "context, pieces" in line).split()
        longest[conversion] = [cell for cell in cells if cell.isdigit()][-1]
    assert longest == {"tw2sp": "11", "none": "12"}


# --- how many pieces ----------------------------------------------------------------------------------------------


def _vocabulary(n: int) -> list[str]:
    return [*SPECIALS, *(chr(0x20000 + i) for i in range(n - len(SPECIALS)))]


@pytest.mark.parametrize("n_rows", [300, 21248])
def test_fewer_pieces_than_rows_is_said_with_both_numbers(tmp_path, n_rows):
    """One lost line moves every id after it: answers come out a character to the right, and nobody was told."""
    place = _directory(tmp_path / "x", _vocabulary(n_rows - 2), None)
    found = fitting_tokenizer(place, None, _config(n_rows))
    (warning,) = found.warnings
    assert f"the vocabulary has {n_rows - 2} entries, the model's embedding {n_rows} rows" in warning


def test_spare_rows_that_the_catalogue_knows_of_are_none(tmp_path):
    """ERNIE 1.0, wherever its files lie: 17964 pieces for 18000 rows. One piece fewer is a lost one."""
    place = _directory(tmp_path / "x", _vocabulary(17964), None)
    assert fitting_tokenizer(place, None, _config(18000)).warnings == ()
    (place / "vocab.txt").write_text("\n".join(_vocabulary(17963)), encoding="utf-8")
    with pytest.raises(UsageError, match="17963 entries, .* 18000 rows, and published models .* have 17964 entries"):
        fitting_tokenizer(place, None, _config(18000))


def test_spare_rows_that_nobody_counted_are_said_and_not_refused(tmp_path):
    """ERNIE 3.0: 40000 rows, and how many its vocabulary fills stands nowhere."""
    place = _directory(tmp_path / "x", _vocabulary(39980), None)
    (warning,) = fitting_tokenizer(place, None, _config(40000)).warnings
    assert "39980 entries, the model's embedding 40000 rows: right if the last 20 rows are spare" in warning
    assert (
        fitting_tokenizer(_directory(tmp_path / "y", _vocabulary(40000), None), None, _config(40000)).warnings == ()
    )


@pytest.mark.parametrize("n_pieces", [21127, 21000])
def test_published_chinese_table_with_a_piece_lost_is_refused(tmp_path, n_pieces):
    place = _directory(tmp_path / "x", _vocabulary(n_pieces), None)
    with pytest.raises(UsageError, match=f"{n_pieces} entries, .* 21128 rows, and published models .* have 21128"):
        fitting_tokenizer(place, None, _config(21128))


@pytest.mark.parametrize("n_pieces", [301, 290, 100])
def test_vocabulary_of_another_model_is_refused(tmp_path, n_pieces):
    place = _directory(tmp_path / "x", _vocabulary(n_pieces), None)
    with pytest.raises(UsageError, match=f"{n_pieces} entries, the model's embedding 300 rows; give the model's own"):
        fitting_tokenizer(place, None, _config(300))


def test_lost_piece_is_warned_of_in_training_its_record_and_prediction(corpus, flags, tmp_path, capsys):
    path = corpus.model / "config.json"
    values = json.loads(path.read_text())
    rows = values["vocab_size"]
    # A vocabulary of hundreds, so that one piece is less than a hundredth.
    vocabulary = (corpus.model / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary += [chr(0x5000 + i) for i in range(200)]
    (corpus.model / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    path.write_text(json.dumps({**values, "vocab_size": rows + 201}))
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1", "--num_train_epochs", "1")) == 0
    expected = f"the vocabulary has {rows + 200} entries, the model's embedding {rows + 201} rows"
    assert f"warning: {corpus.model}: {expected}" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())
    assert any(expected in warning for warning in record["warnings"])
    best = tmp_path / "run" / "seed_1" / "checkpoint-best"
    question = ["--question", "小猫住在哪里？", "--context", "小猫住在北京。"]
    assert main(["predict", "--task", "cmrc2018", "--model_name_or_path", str(best), *question]) == 0
    assert expected in capsys.readouterr().err


# --- commands that take a model without its tokenizer -------------------------------------------------------------


@pytest.fixture
def model(corpus) -> Path:
    n_rows = json.loads((corpus.model / "config.json").read_text())["vocab_size"]
    _weights(corpus.model, n_rows)
    return corpus.model


def test_inspect_says_how_the_tokenizer_is_read(model, capsys):
    assert main(["inspect", "--model_name_or_path", str(model)]) == 0
    n = len((model / "vocab.txt").read_text(encoding="utf-8").split())
    assert f"tokenizer: WordPiece, {n} pieces; casing: lower-cased, as nothing says" in capsys.readouterr().out


def _break(model: Path, how: str) -> str:
    """Make the tokenizer one that `train` refuses; return a part of what it says."""
    if how == "none":
        (model / "vocab.txt").unlink()
        return "holds neither vocab.txt nor tokenizer.json"
    if how == "another kind":
        (model / "vocab.txt").unlink()
        (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}))
        return "tokenizer.json"
    (model / "vocab.txt").write_text("\n".join(SPECIALS))
    return "the vocabulary has 5 entries"


@pytest.mark.parametrize("how", ["none", "another kind", "too few"])
def test_inspect_plan_and_convert_say_that_train_will_refuse_the_tokenizer(model, corpus, tmp_path, capsys, how):
    reason = _break(model, how)
    commands = {
        "inspect": ["inspect", "--model_name_or_path", str(model)],
        "plan": [
            "plan",
            "--task",
            "cmrc2018",
            "--model_name_or_path",
            str(model),
            "--data_dir",
            str(tmp_path / "no"),
        ],
        "convert": ["convert", "--from", str(model), "--to", "reference", "--output", str(tmp_path / "out")],
    }
    for command in commands.values():
        assert main([*command, *(["--max_seq_length", "32"] if command[0] == "plan" else [])]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
        said = [line for line in said if "train and predict will refuse the tokenizer" in line]
        assert len(said) == 1 and reason in said[0], command


def test_about_a_tokenizer_is_one_line_where_all_is_well(model):
    n_rows = json.loads((model / "config.json").read_text())["vocab_size"]
    assert len(describe_tokenizer(model, None, _config(n_rows))) == 1


# --- another family's tokenizer ---------------------------------------------------------------------------------


def test_a_bert_may_have_xlm_r_s_vocabulary_and_spare_rows(tmp_path):
    write_unigram(tmp_path / "e5")
    config = ModelConfig(28, 8, 1, 2, 16, max_position_embeddings=32)
    loaded = fitting_tokenizer(tmp_path / "e5", None, config)
    assert loaded.casing == "casing: cased, as tokenizer.json says" and not loaded.warnings
    assert template_of(config, loaded.tokenizer) == TEMPLATES["roberta"]
    with pytest.raises(UsageError, match="the vocabulary has 28 entries, the model's embedding 900 rows"):
        fitting_tokenizer(tmp_path / "e5", None, replace(config, vocab_size=900))


def test_casing_of_a_tokenizer_json_is_what_it_does(tmp_path):
    write_unigram(tmp_path / "x", normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}]})
    assert read_tokenizer(tmp_path / "x", None).tokenizer.options["do_lower_case"] is True
    # What tokenizer_config.json says beside it is not done, by transformers either.
    (tmp_path / "x" / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}), encoding="utf-8")
    assert read_tokenizer(tmp_path / "x", None).casing == "casing: lower-cased, as tokenizer.json says"
    assert read_tokenizer(tmp_path / "x", False).tokenizer.options["do_lower_case"] is False
