"""The demo: fine-tune a tiny BERT on five tasks over two seeds, tabulate it, and ask it something it has never seen.

Then the first task once more in TensorFlow, and a table that shows that both frameworks compute the same model.

Every step is a command that a user could type; it is printed before it runs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiment.training.record import run_records  # noqa: E402
from preprocess.types import Example  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

CORPUS = ROOT / "examples/corpus"


def first_sentence(example: Example) -> str:
    """Answer with the first sentence of the context."""
    return re.split("[。，,]", example.context)[0]


def different(example: Example) -> str:
    """Say of all pairs that they ask for different things."""
    return "0"


def nothing(example: Example) -> str:
    """Find no name."""
    return ""


#: task -> (its recipe, its dev file, its metric, what the demo fails below in percent, an answer without a model)
DEMOS = {
    "cmrc2018": ("examples/demo.yaml", "demo_dev.json", "em", 80.0, first_sentence),
    "drcd": ("examples/demo_drcd.yaml", "demo_drcd_dev.json", "em", 80.0, first_sentence),
    "cjrc": ("examples/demo_cjrc.yaml", "demo_cjrc_dev.json", "f1", 60.0, first_sentence),
    "msra_ner": ("examples/demo_ner.yaml", "demo_ner_dev.tsv", "f1", 60.0, nothing),
    "lcqmc": ("examples/demo_pairs.yaml", "demo_pairs_dev.tsv", "accuracy", 70.0, different),
}


def command(*arguments: str) -> None:
    """Print and run one `run_mrc.py` command."""
    print(f"\n$ python run_mrc.py {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "run_mrc.py", *arguments], cwd=ROOT, check=True)


def baseline(task_name: str, dev: Path, answer: Callable[[Example], str]) -> dict[str, float]:
    """Return the score of answering every question without a model."""
    task = get_task(task_name)
    examples, _ = task.read(dev)
    return dict(task.score(examples, {example.id: answer(example) for example in examples}).values)


def main() -> int:
    """Run the demo; the exit status is 1 if the model has not learned."""
    runs = {task: f"runs/demo_{task}" for task in DEMOS}
    twin = "runs/demo_tensorflow"
    for task, (recipe, *_) in DEMOS.items():
        command("train", "--config", recipe, "--output_dir", runs[task], "--overwrite_output_dir")
    command("leaderboard", *runs.values())
    paragraph = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]
    ask = ("--question", paragraph["qas"][0]["question"], "--context", paragraph["context"])
    best = f"{runs['cmrc2018']}/seed_123/checkpoint-best"
    command("predict", "--task", "cmrc2018", "--model_name_or_path", best, *ask)
    overwrite = ("--output_dir", twin, "--overwrite_output_dir")
    command("train", "--framework", "tensorflow", "--config", "examples/demo.yaml", "--seeds", "123", *overwrite)
    print()
    learned = True
    for task, run in (*runs.items(), ("cmrc2018", twin)):
        _, dev, metric, bar, answer = DEMOS[task]
        values = [record.scores["dev"][metric] for record in run_records(ROOT / run)]
        mean = sum(values) / len(values)
        without = baseline(task, CORPUS / dev, answer)[metric]
        learned &= mean >= bar
        what = answer.__name__.replace("_", " ")
        print(f"{run}: {metric} {mean:.1f}, seeds: {len(values)} (at least {bar:g}); {what} {without:.1f}")
    best = f"{twin}/seed_123/checkpoint-best"
    data = ("--data_file", "examples/corpus/demo_dev.json", "--max_eval_samples", "100", "--steps", "10")
    command("parity", "--task", "cmrc2018", "--model_name_or_path", best, *data)
    print("The models have learned to read." if learned else "FAILED: a model stayed below its bar.")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
