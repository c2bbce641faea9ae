"""The grids in examples/: they say what the tables say that they repeat."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from experiment.grid.cells import runs_of
from experiment.options.arguments import split, understand
from experiment.options.flags import GridOptions

ROOT = Path(__file__).resolve().parents[3]
#: What the reference system's tables call a model -> its name in the grid.
REFERENCE = {
    "google_bert_base": "bert-base-chinese", "hfl bert_wwm_ext_base": "chinese-bert-wwm-ext",
    "hfl roberta_wwm_ext_base": "chinese-roberta-wwm-ext",
    "hfl roberta_wwm_ext_large": "chinese-roberta-wwm-ext-large", "ERNIE1.0": "ernie-1.0-base-zh",
    "xlnet-mid": "chinese-xlnet-mid", "sibert_base": "sibert-base", "siBert_base": "sibert-base",
    "sialbert_middle": "sialbert-middle", "siALBert_middle": "sialbert-middle",
    "brightmart roberta_middle": "roberta-zh-l24-middle", "brightmart roberta_large": "roberta-zh-large",
    "brightmart albert_large": "albert-zh-large", "brightmart albert_xlarge": "albert-zh-xlarge",
}  # fmt: skip
HFL = {
    "BERT": "bert-base-chinese", "ERNIE": "ernie-1.0-base-zh", "BERT-wwm": "chinese-bert-wwm",
    "BERT-wwm-ext": "chinese-bert-wwm-ext", "RoBERTa-wwm-ext": "chinese-roberta-wwm-ext",
    "RoBERTa-wwm-ext-large": "chinese-roberta-wwm-ext-large",
    "ELECTRA-180g-small": "chinese-electra-180g-small-discriminator",
    "ELECTRA-180g-small-ex": "chinese-electra-180g-small-ex-discriminator",
    "ELECTRA-180g-base": "chinese-electra-180g-base-discriminator",
}  # fmt: skip


def _runs(name):
    options = understand(split(["--config", str(ROOT / "examples" / "grids" / name)], GridOptions), GridOptions)
    return {run.name: run.options for run in runs_of(options)}


def _rows(data_dir, *sources):
    path = data_dir / "published" / "reference_scores.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["source"] in sources]


GRIDS = [("reference.yaml", 36, 5), ("hfl.yaml", 44, 10), ("demo.yaml", 4, 2), ("report.yaml", 2, 2)]


@pytest.mark.parametrize(("name", "n_runs", "n_seeds"), GRIDS)
def test_grids_are_understood(name, n_runs, n_seeds):
    runs = _runs(name)
    assert len(runs) == n_runs and {len(options.seeds) for options in runs.values()} == {n_seeds}


@pytest.mark.realdata
def test_the_reference_grid_has_the_hyper_parameters_of_every_published_row(data_dir):
    runs, found = _runs("reference.yaml"), Counter()
    for row in _rows(data_dir, "ewrfcas/bert_cn_finetune/README.md"):
        options = runs[f"{REFERENCE[row['model']]}.{row['dataset']}.pytorch"]
        assert options.learning_rate == float(row["lr"]), row
        assert options.per_device_train_batch_size == int(row["batch"]), row
        assert options.num_train_epochs == float(row["epochs"]), row
        assert options.warmup_ratio == float(row["warmup"]), row
        assert options.max_seq_length == int(row["max_len"]), row
        found[row["dataset"]] += 1
    assert set(found) == {"cmrc2018", "drcd", "cjrc"}


@pytest.mark.realdata
def test_hfls_grid_has_the_learning_rates_of_every_published_row(data_dir):
    runs, n_found = _runs("hfl.yaml"), 0
    for row in _rows(data_dir, "ymcui/Chinese-BERT-wwm/README.md", "ymcui/Chinese-ELECTRA/README.md"):
        if row["lr"] and row["model"] in HFL:
            assert runs[f"{HFL[row['model']]}.{row['dataset']}.pytorch"].learning_rate == float(row["lr"]), row
            n_found += 1
    assert n_found > 50
