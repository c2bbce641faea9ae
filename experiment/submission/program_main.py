"""A packed program: reads questions, writes their answers.

`submit` puts this into its archives as main.py, beside the toolkit and the model. `main.py INPUT OUTPUT` is how
CMRC2018's (and SQuAD's) organisers run it; without arguments it reads and writes where CAIL2019's rules say.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path


def answer(here: Path, questions: Path, answers: Path) -> int:
    """Answer the questions of a file with what lies in a directory; returns the exit status."""
    sys.path.insert(0, str(here))
    from experiment.cli import main

    framework = "pytorch" if (here / "pytorch_modeling").is_dir() else "tensorflow"
    task = json.loads((here / "model" / "mrc_settings.json").read_text(encoding="utf-8"))["task"]
    answers.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        command = ["predict", "--task", task, "--framework", framework, "--feature_cache_dir", "None"]
        command += ["--model_name_or_path", str(here / "model"), "--output_dir", directory]
        status = main([*command, "--test_file", str(questions)])
        if status == 0:
            official = Path(directory) / "predictions_official.json"
            shutil.copyfile(official if official.is_file() else Path(directory) / "predictions.json", answers)
    return status


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    if len(sys.argv) not in (1, 3):
        sys.exit("usage: main.py [INPUT OUTPUT]")
    given = [Path(place).resolve() for place in sys.argv[1:]]
    places = given or [here.parent / "data" / "data.json", here.parent / "result" / "result.json"]
    sys.exit(answer(here, *places))
