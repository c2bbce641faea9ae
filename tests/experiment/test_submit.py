"""`submit`: the archives that organisers read, and the answers that are not handed over."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest

from experiment.cli import main
from experiment.submission.program import content_of
from tests.experiment.conftest import ROOT, train_flags, write_corpus

CORPUS = ROOT / "examples" / "corpus"


@pytest.fixture
def clue(tmp_path):
    """Submit answers to the tiny corpus; returns the status."""
    corpus = write_corpus(tmp_path)
    texts = ("北京", "上海", "苹果", "香蕉", "三本", "九支")
    right = {f"T_{n // 2}_Q_{n % 2}": text for n, text in enumerate(texts)}

    def run(change: dict | None = None, output: str = "submit_team_20260101.zip", source: Path | None = None) -> int:
        directory = tmp_path / "answers"
        directory.mkdir(exist_ok=True)
        answers = {id: text for id, text in {**right, **(change or {})}.items() if text is not None}
        (directory / "predictions.json").write_text(json.dumps(answers), encoding="utf-8")
        flags = ["--for", "clue", "--data_file", corpus.data, "--output", tmp_path / output]
        return main(list(map(str, ["submit", source or directory, *flags])))

    return run, right, corpus


def test_clue_gets_one_file_of_answers(clue, tmp_path):
    submit, right, _ = clue
    assert submit() == 0
    first = (tmp_path / "submit_team_20260101.zip").read_bytes()
    with ZipFile(tmp_path / "submit_team_20260101.zip") as archive:
        assert archive.namelist() == ["cmrc2018_predict.json"]
        assert json.loads(archive.read("cmrc2018_predict.json")) == right
    assert submit() == 0 and (tmp_path / "submit_team_20260101.zip").read_bytes() == first


@pytest.mark.parametrize(
    "change, message",
    [
        ({"T_1_Q_0": None}, "1 questions have no answer, such as 'T_1_Q_0'"),
        ({"TEST_9": "北京"}, "1 answers belong to no question of the file, such as 'TEST_9'"),
        ({"T_1_Q_0": ""}, "1 answers are empty, such as that of 'T_1_Q_0'"),
        (
            {"T_1_Q_0": "FAKE_ANSWER_1"},
            "do not stand in their text or options, such as that of 'T_1_Q_0' ('FAKE_ANSWER_1')",
        ),
    ],
)
def test_answers_that_can_not_be_meant_are_not_submitted(change, message, clue, tmp_path, capsys):
    assert clue[0](change) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "submit_team_20260101.zip").exists()


#: Test files of C3 and CHID in CLUE's layouts: without answers, those of CHID a passage a line.
C3 = [
    [["男：你喜欢什么？", "女：苹果。"], [{"question": "女的喜欢什么？", "choice": ["梨", "苹果"], "id": 4}], "0"],
    [["他住在北京。"], [{"question": "他住哪里？", "choice": ["上海", "广州", "北京"], "id": 7}]],
]
CHID = {
    "groupId": 0,
    "candidates": ["画蛇添足", "一帆风顺"],
    "content": ["这样做是#idiom000007#。", "祝你#idiom000008#。"],
}
OTHERS = {
    "c3": {"m-question-7": "北京", "d-0-1": "苹果"},
    "chid": {"#idiom000007#": "画蛇添足", "#idiom000008#": "一帆风顺"},
}


def test_clue_gets_a_file_for_each_of_its_reading_tasks(clue, tmp_path, capsys):
    """The layouts of the test files say whose they are; C3's answers have the questions' ids, or are numbered."""
    _, right, corpus = clue
    files = {"c3": json.dumps(C3), "chid": json.dumps(CHID) + "\n"}
    flags = ["--for", "clue", "--output", str(tmp_path / "submit_us_1201.zip"), "--data_file", str(corpus.data)]
    runs = []
    for name, answers in {"cmrc2018": right, **OTHERS}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.json").write_text(json.dumps(answers), encoding="utf-8")
        runs.append(str(tmp_path / name))
        if name in files:
            (tmp_path / f"{name}.json").write_text(files[name], encoding="utf-8")
            flags.append(str(tmp_path / f"{name}.json"))
    assert main(["submit", *runs, *flags]) == 0
    with ZipFile(tmp_path / "submit_us_1201.zip") as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    assert content.keys() == {"cmrc2018_predict.json", "c311_predict.json", "chid11_predict.json"}
    assert content["c311_predict.json"] == '{"id": 4, "label": 1}\n{"id": 7, "label": 2}\n'
    assert json.loads(content["chid11_predict.json"]) == {"#idiom000007#": 0, "#idiom000008#": 1}
    assert json.loads(content["cmrc2018_predict.json"]) == right
    capsys.readouterr()
    assert main(["submit", *runs[:2], *flags]) == 2
    assert "2 RUNS and 3 --data_file: give each of them its test file" in capsys.readouterr().err
    wrong = {**OTHERS["c3"], "d-0-1": "香蕉"}
    (tmp_path / "c3" / "predictions.json").write_text(json.dumps(wrong), encoding="utf-8")
    assert main(["submit", *runs, *flags]) == 2
    assert "do not stand in their text or options, such as that of 'd-0-1' ('香蕉')" in capsys.readouterr().err
    twice = [*flags[:4], "--data_file", str(corpus.data), str(corpus.data)]
    assert main(["submit", runs[0], runs[0], *twice]) == 2
    assert "a second test file of cmrc2018" in capsys.readouterr().err


def test_an_archive_of_another_name_is_refused(clue, capsys):
    assert clue[0](output="submit.zip") == 2
    assert "CLUE wants a name like submit_myteamname_mydate.zip" in capsys.readouterr().err


def test_the_seed_that_is_best_on_dev_answers(clue, tmp_path, capsys):
    submit, _, corpus = clue
    assert main(train_flags(corpus, tmp_path / "run", "--num_train_epochs", "1")) == 0
    assert submit(source=tmp_path / "run") == 2
    assert "trained without --test_file; answer the test file with predict" in capsys.readouterr().err
    more = ["--num_train_epochs", "30", "--eval_epochs", "30", "--learning_rate", "1e-2"]
    assert main(train_flags(corpus, tmp_path / "tested", *more, "--test_file", str(corpus.data))) == 0
    assert submit(source=tmp_path / "tested") == 0
    records = [json.loads((tmp_path / f"tested/seed_{n}/record.json").read_text()) for n in (1, 2)]
    best = max(records, key=lambda record: sum(record["scores"]["dev"][name] for name in ("f1", "em")))
    expected = json.loads((tmp_path / f"tested/seed_{best['seed']}/predictions_test.json").read_text())
    with ZipFile(tmp_path / "submit_team_20260101.zip") as archive:
        assert json.loads(archive.read("cmrc2018_predict.json")) == expected
    _cmrc2018_gets_a_program_that_is_given_two_paths(tmp_path / "tested", corpus.data, tmp_path / "pack.zip", capsys)


def _cmrc2018_gets_a_program_that_is_given_two_paths(run, data, pack, capsys):
    """Its answers were read after a trial; the run is shared, for a training costs more than the test."""
    assert main(["submit", str(run), "--for", "cmrc2018", "--data_file", str(data), "--output", str(pack)]) == 0
    assert "6 questions answered by its main.py on trial" in capsys.readouterr().out.replace("\n", " ")
    with ZipFile(pack) as archive:
        assert {"main.py", "model/mrc_settings.json", "tasks/cmrc2018.py"} <= set(archive.namelist())


@pytest.fixture(scope="module")
def cjrc(tmp_path_factory):
    """A run on the small judgments of the examples."""
    root = tmp_path_factory.mktemp("cjrc")
    published = json.loads((CORPUS / "demo_cjrc_dev.json").read_text(encoding="utf-8"))
    published["data"] = published["data"][:12]
    data = root / "data.json"
    data.write_text(json.dumps(published), encoding="utf-8")
    flags = [
        "train", "--task", "cjrc", "--config_name", str(CORPUS), "--train_file", str(data), "--validation_file",
        str(data), "--output_dir", str(root / "run"), "--max_seq_length", "64", "--num_train_epochs", "8",
        "--eval_epochs", "8", "--learning_rate", "1e-3", "--per_device_train_batch_size", "8", "--seeds", "1",
        "--feature_cache_dir", "None",
    ]  # fmt: skip
    assert main(flags) == 0
    return root / "run", data


def _submit_cail(cjrc, output):
    run, data = cjrc
    return main(["submit", str(run), "--for", "cail2019", "--data_file", str(data), "--output", str(output)])


def test_cail2019_gets_a_program_that_answers_a_file_without_answers(cjrc, tmp_path, capsys):
    """What is packed is run as the organisers do: unpacked elsewhere, on a file whose answers are taken out."""
    assert _submit_cail(cjrc, tmp_path / "cail.zip") == 0
    assert "questions answered by its main.py on trial" in capsys.readouterr().out
    with ZipFile(tmp_path / "cail.zip") as archive:
        names = archive.namelist()
    assert {"main.py", "model/model.safetensors", "experiment/cli.py", "tasks/cjrc.py"} <= set(names)
    assert not any(name.startswith(("tf_modeling/", "tests/")) or "__pycache__" in name for name in names)


def test_a_program_that_fails_is_not_handed_over(cjrc, tmp_path, capsys, monkeypatch):
    def incomplete(run, rules):
        content = content_of(run, rules)
        return {name: path for name, path in content.items() if not name.startswith("pretrained_configs/")}

    monkeypatch.setattr("experiment.commands.submit.content_of", incomplete)
    assert _submit_cail(cjrc, tmp_path / "cail.zip") == 2
    said = capsys.readouterr().err
    assert "main.py of the archive has failed with status 1: pretrained_configs" in said
    assert "is not in the archive" in said
    assert not (tmp_path / "cail.zip").exists()


def test_one_program_is_packed_at_a_time(tmp_path, capsys):
    flags = ["--for", "cail2019", "--data_file", "x.json", "--output", str(tmp_path / "x.zip")]
    assert main(["submit", "runs/a", "runs/b", *flags]) == 2
    assert "--for cail2019: give one run and one --data_file" in capsys.readouterr().err


def test_cail2019_takes_a_run_of_its_task(clue, tmp_path, capsys):
    corpus = clue[2]
    assert main(train_flags(corpus, tmp_path / "run", "--num_train_epochs", "1", "--seeds", "1")) == 0
    assert _submit_cail((tmp_path / "run", corpus.data), tmp_path / "cail.zip") == 2
    assert "a run of task cmrc2018; CAIL2019 takes one of cjrc" in capsys.readouterr().err
