"""The card of a run: read back by the hub's own library, and pushed to a stand-in for the hub."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from experiment.cli import main
from experiment.report.card import make_card
from pretrained_configs import catalog
from tasks.core.discovery import get_task

NASTY = "a`|</script><b>``` \u202e---\ntitle: x"


@pytest.fixture
def run(runs):
    """Two seeds, the second better on dev."""
    return runs.make("run", [0.7, 0.75], n_steps=20, step=10)


def _model_card(made):
    return ModelCard(made.files["README.md"])


def test_the_hub_reads_the_metrics_of_the_best_seed_and_the_means(run):
    made = make_card(run)
    assert made.record.seed == 2
    found = {(r.metric_type, r.metric_name): r for r in _model_card(made).data.eval_results}
    assert found["exact_match", "EM"].metric_value == 75.0
    assert found["f1", "F1"].metric_value == 87.5
    mean = next(r for (_, name), r in found.items() if name.startswith("EM, mean of 2 seeds, 95 %"))
    low, high = map(float, re.findall(r"\d+\.\d\d", mean.metric_name))
    assert mean.metric_value == 72.5 and low < 72.5 < high
    assert {(r.dataset_type, r.dataset_name, r.dataset_split) for r in found.values()} == {
        ("cmrc2018", "CMRC 2018", "dev")
    }


def test_a_seed_can_be_chosen(run):
    made = make_card(run, seed=1)
    assert [r.metric_value for r in _model_card(made).data.eval_results if r.metric_name == "EM"] == [70.0]
    said = "The checkpoint of seed 1, step 10 of 20; one of 2 seeds of one run, of which seed 2 is the best on dev."
    assert said in made.files["README.md"]
    assert "seed 2, step 10 of 20; the best on dev of 2 seeds of one run." in make_card(run).files["README.md"]


def test_one_seed_has_no_mean(runs):
    names = [r.metric_name for r in _model_card(make_card(runs.make("one", [0.7]))).data.eval_results]
    assert names == ["F1", "EM"]


def test_results_are_of_the_hubs_data_set_only_if_the_file_is_the_published_one(runs):
    task = get_task("cmrc2018")
    published = next(source.sha256 for source in task.sources if source.split == "dev")
    card = make_card(runs.make("a", [0.7], hashes={"dev_file": published}))
    (name,) = set(card.files) - {"README.md"}
    assert name == ".eval_results/cmrc2018_dev.yaml" and not card.notes
    entries = parse_eval_result_entries(yaml.safe_load(card.files[name]))
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [
        ("hfl/cmrc2018", "f1", 85.0), ("hfl/cmrc2018", "exact_match", 70.0),
    ]  # fmt: skip
    assert "seed 1" in entries[0].notes and "cmrc2018, version" in entries[0].notes
    assert _model_card(card).data.datasets == ["hfl/cmrc2018"]
    part = make_card(
        runs.make("b", [0.7], hashes={"dev_file": published}, config={"max_eval_samples": 5, "max_seq_length": 512})
    )
    other = make_card(runs.make("c", [0.7]))
    for made in (part, other):
        assert set(made.files) == {"README.md"}
        assert made.notes == ["no .eval_results of dev: the data is not known on the hub; --dataset_id names it"]


def test_a_published_model_is_named_as_the_base(runs):
    name = next(name for name in catalog.names() if catalog.lookup(name).hub_id)
    made = make_card(runs.make("a", [0.7], model=name))
    assert _model_card(made).data.base_model == catalog.lookup(name).hub_id
    made = make_card(runs.make("b", [0.7], config={"model_name_or_path": "me/mine"}))
    assert _model_card(made).data.base_model == "me/mine"
    made = make_card(runs.make("c", [0.7], config={"model_name_or_path": "/home/me/mine"}))
    assert _model_card(made).data.base_model is None


def test_any_name_stays_text(runs):
    made = make_card(runs.make("a", [0.7], model=NASTY, config={"output_dir": f"out {NASTY}"}))
    text = made.files["README.md"]
    data = ModelCard(text).data
    assert data.model_name == f"{NASTY}-cmrc2018" and data.get("title") is None
    body = text.split("\n---\n", 1)[1]
    assert "<b>" not in body.split("```")[0] and "\u202e" not in re.sub("(?s)````console.*?````", "", body)
    # The command is the only code, and what is in it does not end it.
    assert re.search(r"(?m)^````console$", body)


def test_the_command_names_every_seed(run):
    command = re.search(r"(?s)```console\n(.*?)\n```", make_card(run).files["README.md"])[1]
    assert shlex.split(command)[:2] == ["chinese-mrc", "train"]
    assert re.search(r"--seeds 1 2\b", command)


class Hub:
    """Stands in for the hub's client, and keeps what it is given."""

    made: list = []
    failure: Exception | None = None

    def __init__(self, **options):
        pass

    def create_repo(self, repo_id, *, private, exist_ok):
        from huggingface_hub import RepoUrl

        if self.failure is not None:
            raise self.failure
        self.made.append(("repo", repo_id, private, exist_ok))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_commit(self, repo_id, operations, *, commit_message):
        self.made.append(("commit", repo_id, [operation.path_in_repo for operation in operations], commit_message))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "made", [])
    return Hub


def test_the_card_is_written_and_pushed_in_one_commit(run, tmp_path, capsys, hub):
    checkpoint = run / "seed_2/checkpoint-best"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    flags = ["--output", str(tmp_path / "card"), "--dataset_id", "me/data", "--push_to_hub", "me/mine"]
    assert main(["card", str(run), *flags, "--weights", "--private"]) == 0
    files = ["README.md", ".eval_results/cmrc2018_dev.yaml"]
    assert hub.made == [
        ("repo", "me/mine", True, True),
        ("commit", "me/mine", [*files, "model.safetensors"], "Add the checkpoint and its card"),
    ]
    assert all((tmp_path / "card" / name).is_file() for name in files)
    assert "pushed to https://huggingface.co/me/mine" in capsys.readouterr().out


def test_the_card_lies_in_the_run_if_nothing_else_is_said(run, hub):
    assert main(["card", str(run)]) == 0
    assert (run / "README.md").is_file() and hub.made == []


def test_a_hub_that_refuses_is_one_line_and_the_card_is_kept(run, capsys, hub, monkeypatch):
    monkeypatch.setattr(Hub, "failure", OSError("401 Client Error\nmore"))
    assert main(["card", str(run), "--push_to_hub", "me/mine"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --push_to_hub me/mine: 401 Client Error; log in")
    assert (run / "README.md").is_file()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "9"], "seed 9 is not there, or not finished with a score"),
        (["--weights"], "--weights and --private are about --push_to_hub"),
        (["--push_to_hub", "me/mine", "--weights"], "checkpoint-best is not there; leave --weights out"),
    ],
)
def test_mistakes(run, flags, said, capsys, hub):
    assert main(["card", str(run), *flags]) == 2
    assert said in capsys.readouterr().err
    assert hub.made == [] and not (run / "README.md").exists()


def test_a_run_without_a_score_has_no_card(runs, capsys):
    run = runs.make("a", [0.7], status="failed")
    assert main(["card", str(run)]) == 2
    assert "no seed finished with a score" in capsys.readouterr().err
