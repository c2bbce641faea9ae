"""The demo: fine-tune a tiny BERT over two seeds, tabulate it, and ask it a question it has never seen.

Every step is a command that a user could type; it is printed before it runs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiment.record import run_records  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

RUN = "runs/demo"
DEV = ROOT / "examples/corpus/demo_dev.json"
#: The demo has failed if the model stays below this, in percent of dev questions answered exactly.
EXPECTED_EM = 80.0


def command(*arguments: str) -> None:
    """Print and run one `run_mrc.py` command."""
    print(f"\n$ python run_mrc.py {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "run_mrc.py", *arguments], cwd=ROOT, check=True)


def first_sentence_score() -> dict[str, float]:
    """Return the score of answering every question with its context's first sentence."""
    task = get_task("cmrc2018")
    examples, _ = task.read(DEV)
    answers = {example.id: re.split("[。，]", example.context)[0] for example in examples}
    return dict(task.score(examples, answers).values)


def main() -> int:
    """Run the demo; the exit status is 1 if the model has not learned."""
    command("train", "--config", "examples/demo.yaml", "--output_dir", RUN, "--overwrite_output_dir")
    command("leaderboard", RUN)
    paragraph = json.loads(DEV.read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]
    question = paragraph["qas"][0]["question"]
    best = f"{RUN}/seed_123/checkpoint-best"
    ask = ("--question", question, "--context", paragraph["context"])
    command("predict", "--task", "cmrc2018", "--model_name_or_path", best, *ask)
    ems = [record.scores["dev"]["em"] for record in run_records(ROOT / RUN)]
    baseline = first_sentence_score()["em"]
    learned = sum(ems) / len(ems) >= EXPECTED_EM
    print(f"\nEM on dev: {sum(ems) / len(ems):.1f} over {len(ems)} seeds; the first sentence gets {baseline:.1f}.")
    print("The model has learned to read." if learned else f"FAILED: an EM of at least {EXPECTED_EM} was expected.")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
