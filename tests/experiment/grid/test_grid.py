"""`grid`: what is finished is kept, what has failed is shown, what can't be trained is told before anything is."""

from __future__ import annotations

import json
import signal

import pytest

from experiment.cli import main
from experiment.report.remarks import remarks, with_remarks
from experiment.report.table import leaderboard

CMRC, DRCD = "tiny.cmrc2018.pytorch", "tiny.drcd.pytorch"


def test_cells_are_trained_once_and_their_table_is_the_leaderboards(write, begun, tmp_path, capsys):
    assert main(write()) == 0
    assert begun == [f"{CMRC} seed 1", f"{DRCD} seed 1"]
    runs = [tmp_path / "table" / name for name in (CMRC, DRCD)]
    table = with_remarks(leaderboard(runs), remarks(runs, tmp_path / "table"))
    assert (tmp_path / "table" / "leaderboard.md").read_text() == table
    assert capsys.readouterr().out.endswith(table + "\n")
    # The same command again, and one with a seed more: what is finished is not trained again.
    assert main(write()) == 0
    assert main([*write(), "--seeds", "1", "2"]) == 0
    assert begun[2:] == [f"{CMRC} seed 2", f"{DRCD} seed 2"]
    assert main([*write(), "--status"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(CMRC)]
    assert rows[-1][1:7] == ["2", "-", "-", "-", "-", "100%"]


def test_a_run_of_other_content_is_refused_or_renamed_and_never_lost(write, begun, grid_corpus, tmp_path, capsys):
    assert main(write()) == 0
    other = write(extra="  drcd: {learning_rate: 2e-3}\n")
    assert main(other) == 2
    said = capsys.readouterr().err
    assert f"{DRCD} (learning_rate 0.001 there, 0.002 here)" in said and "--retrain_changed" in said
    assert CMRC not in said
    record = tmp_path / "table" / DRCD / "seed_1" / "record.json"
    before = record.read_bytes()
    assert main([*other, "--retrain_changed"]) == 0
    assert begun[2:] == [f"{DRCD} seed 1"]
    assert (tmp_path / "table" / f"{DRCD}~1" / "seed_1" / "record.json").read_bytes() == before
    assert json.loads(record.read_text())["config"]["learning_rate"] == 2e-3
    # The same options on other data are another run, too.
    text = json.loads(grid_corpus.data.read_text(encoding="utf-8"))
    text["data"] = text["data"][:2]
    (tmp_path / "fewer.json").write_text(json.dumps(text), encoding="utf-8")
    fewer = f"  cmrc2018: {{train_file: {tmp_path / 'fewer.json'}}}\n"
    assert main(write(extra=fewer + "  drcd: {learning_rate: 2e-3}\n")) == 2
    assert f"{CMRC} (trained on another train_file)" in capsys.readouterr().err


def test_a_failed_cell_is_recorded_shown_and_passed_over(write, begun, fates, tmp_path, capsys):
    fates[f"{CMRC} seed 1"] = [(2, "error: no space left")]
    assert main(write()) == 1
    assert begun == [f"{CMRC} seed 1", f"{DRCD} seed 1"]
    out = capsys.readouterr().out
    assert f"[1/2] {CMRC} seed 1: failed (no space left; {tmp_path}/table/logs/{CMRC}.seed_1.log)" in out
    assert f"[2/2] {DRCD} seed 1: finished" in out and "| drcd |" in out and "| cmrc2018 |" not in out
    assert main([*write(), "--status"]) == 0
    out = capsys.readouterr().out
    assert "2 cells: 1 finished, 1 failed\n" in out and f"failed: {CMRC} seed 1: no space left" in out
    # Again it is passed over, until it is asked for.
    assert main(write()) == 1 and len(begun) == 2
    assert main([*write(), "--retry_failed"]) == 0
    assert begun[2:] == [f"{CMRC} seed 1"]
    assert main([*write(), "--status"]) == 0
    assert "2 cells: 2 finished\n" in capsys.readouterr().out


def test_a_table_with_a_cell_that_was_told_to_stop_is_not_called_whole(write, begun, fates, capsys):
    """Somebody has stopped one worker: what follows the command in a script must not take its table for whole."""
    fates[f"{CMRC} seed 1"] = [(130, "interrupted")]
    assert main(write()) == 1
    assert "1 cells were told to stop before they were finished; the same command" in capsys.readouterr().out
    assert main(write()) == 0 and begun[2:] == [f"{CMRC} seed 1"]


def test_options_that_nothing_comes_of_are_named(write, begun, fates, capsys):
    fates |= {f"{run} seed 1": [(2, "error: not today")] for run in (CMRC, DRCD)}
    assert main([*write(), "--gpu", "a100-40gb", "--gpus_per_cell", "1"]) == 1
    said = capsys.readouterr().err
    assert "warning: --gpu says what --dry_run plans for" in said
    assert "warning: --gpus_per_cell, --cpus_per_cell and --executor_options are for ray and submitit" in said
    assert main([*write(), "--status", "--dry_run"]) == 2
    assert "--status and --dry_run: give one of them" in capsys.readouterr().err


def test_a_killed_process_is_started_again_and_not_for_ever(write, begun, fates, capsys):
    fates[f"{CMRC} seed 1"] = [(-signal.SIGKILL, "")]
    fates[f"{DRCD} seed 1"] = [(-signal.SIGKILL, "")] * 9
    assert main(write()) == 1
    assert begun.count(f"{CMRC} seed 1") == 2 and begun.count(f"{DRCD} seed 1") == 4
    out = capsys.readouterr().out
    assert f"{CMRC} seed 1: its process was killed by signal 9; it goes on" in out
    assert f"{DRCD} seed 1: failed (its process was killed by signal 9" in out


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("  drcd: {train_file: no_such.json}\n", f"{DRCD}: "),
        ("  drcd: {max_seq_length: 999}\n", f"{DRCD}: --max_seq_length 999 > max_position_embeddings 64"),
        ("  drcd: {bf16: true, fp16: true}\n", f"{DRCD}: --bf16 and --fp16 both given"),
    ],
)
def test_a_mistake_in_one_cell_is_told_before_any_is_trained(write, begun, capsys, extra, said):
    assert main(write(extra=extra)) == 2
    assert said in capsys.readouterr().err and begun == []


def test_a_missing_model_is_told_with_all_runs_that_need_it(write, begun, capsys):
    assert main([*write(), "--models", "no/such/model"]) == 2
    assert "model.cmrc2018.pytorch and 1 more: no/such/model: no such file or directory" in capsys.readouterr().err
    assert begun == []


def test_a_dry_run_plans_and_leaves_nothing(write, begun, tmp_path, capsys):
    assert main([*write(), "--dry_run", "--gpu", "t4", "--frameworks", "pytorch", "tensorflow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("tiny.")}
    assert len(rows) == 4 and rows[CMRC][0] == "1" and rows[CMRC][5] == "yes"
    assert "4 cells in 4 runs, 4 to train, on t4" in lines
    assert not (tmp_path / "table").exists() and begun == []
    assert main([*write(), "--dry_run", "--gpu", "t40"]) == 2
    assert "--gpu t40: unknown; did you mean 't4'?" in capsys.readouterr().err


def test_two_grids_in_one_directory_are_refused(write, begun, tmp_path, capsys):
    from preprocess.base.files import locked

    (tmp_path / "table").mkdir()
    with locked(tmp_path / "table"):
        assert main(write()) == 2
    assert "another grid command works there" in capsys.readouterr().err


def test_status_of_no_grid_is_a_mistake(tmp_path, capsys):
    assert main(["grid", "--status", "--output_dir", str(tmp_path)]) == 2
    assert "no grid was started there" in capsys.readouterr().err
    assert main(["grid", "--watch", "--output_dir", str(tmp_path)]) == 2
    assert "--watch goes with --status" in capsys.readouterr().err
