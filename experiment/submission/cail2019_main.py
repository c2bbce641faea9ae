"""CAIL2019, reading comprehension: reads ../data/data.json and writes ../result/result.json.

`submit` puts this into its archive as main.py, beside the toolkit and the model.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path


def answer(here: Path) -> int:
    """Answer the questions with what lies in a directory; returns the exit status."""
    sys.path.insert(0, str(here))
    from experiment.cli import main

    framework = "pytorch" if (here / "pytorch_modeling").is_dir() else "tensorflow"
    result = here.parent / "result" / "result.json"
    result.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as answers:
        command = ["predict", "--task", "cjrc", "--framework", framework, "--feature_cache_dir", "None"]
        command += ["--model_name_or_path", str(here / "model"), "--output_dir", answers]
        status = main([*command, "--test_file", str(here.parent / "data" / "data.json")])
        if status == 0:
            shutil.copyfile(Path(answers) / "predictions_official.json", result)
    return status


if __name__ == "__main__":
    sys.exit(answer(Path(__file__).resolve().parent))
