"""Options of the commands whose answers come from elsewhere than one model, go elsewhere, or are weighed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.data import Count, FeatureCacheOptions, Files, TaskChoice
from experiment.options.devices import Framework
from experiment.options.fields import ABOVE_0, AT_LEAST_0, PATH_LIKE, POSITIONAL, Named, Rule
from experiment.options.optimisation import Seed

_Price = Annotated[float, AT_LEAST_0]


@dataclass(frozen=True, kw_only=True)
class AskLlmOptions(TaskChoice):
    """Let a language model behind an OpenAI-compatible endpoint answer the questions of a file.

    The same command goes on with the questions that have no reply yet.

    Examples:
        ask_llm --task cmrc2018 --test_file dev.json --base_url http://localhost:8000/v1 --model qwen --output_dir llm
        ask_llm --task cjrc --test_file dev.json --base_url https://api.example.com/v1 --api_key_env EXAMPLE_KEY \
            --model large --concurrency 16 --price_input 0.5 --price_output 2 --output_dir llm
        ask_llm --task squad_v2 --test_file dev.json --base_url http://localhost:8000/v1 --model qwen \
            --prompt my_prompt.json --extra_body '{"seed": 1}' --output_dir llm
    """

    test_file: Files
    """Questions to answer, in the task's layout; several files are read as one."""
    base_url: str
    """Address of the endpoint, such as http://localhost:8000/v1; /chat/completions is added."""
    model_name: Annotated[str, Named("model")]
    """Model, as the endpoint calls it."""
    output_dir: Path
    """Gets predictions.json, protocol.json, the replies and what became of each."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; nothing is sent if there is none. The key is never written."""
    prompt: Annotated[str, PATH_LIKE] | None = None
    """Version of the task's prompt, or a JSON file with another (default: the newest version)."""
    temperature: Annotated[float, AT_LEAST_0] = 0.0
    """Sampling temperature."""
    max_tokens: Count = 512
    """Longest reply, in the model's tokens."""
    extra_body: str | None = None
    """JSON object of further fields of the request, such as {"seed": 1}; null leaves a field out."""
    concurrency: Annotated[int, Rule("at least 1 and at most 256", lambda x: 1 <= x <= 256)] = 4
    """Requests at the same time."""
    timeout: Annotated[float, ABOVE_0] = 120.0
    """Seconds for the server to say something."""
    max_retries: Annotated[int, Rule("at least 0 and at most 100", lambda x: 0 <= x <= 100)] = 6
    """Times that a request is sent again after 429, 5xx, a timeout or a reply that can't be read."""
    retry_wait: Annotated[float, ABOVE_0] = 1.0
    """Seconds before the first of them, doubled with each; longer where the server asks for it."""
    retry_refused: bool = False
    """Ask the questions that the server has refused once more; without, they stay without an answer."""
    max_eval_samples: Count | None = None
    """Use only the first so many questions."""
    price_input: _Price | None = None
    """Price of a million tokens of prompts, for the cost; in any currency."""
    price_output: _Price | None = None
    """Price of a million tokens of replies."""


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(TaskChoice, FeatureCacheOptions):
    """Answer the questions of a file with several fine-tuned models as one, whatever their tokenizers and frameworks.

    Examples:
        ensemble runs/roberta runs/macbert --task cmrc2018 --test_file dev.json --output_dir runs/both
        ensemble runs/*/seed_1/checkpoint-best --task cjrc --test_file test.json --output_dir best
        ensemble runs/roberta --task squad_v2 --test_file dev.json --output_dir five --framework pytorch
    """

    runs: Annotated[tuple[Path, ...], POSITIONAL]
    """Run directories, whose finished seeds all count; or single checkpoints."""
    test_file: Path
    """Questions to answer, in the task's layout."""
    output_dir: Path
    """Gets predictions.json, nbest_predictions.json, protocol.json, and scores.json where there are answers."""
    framework: Framework | None = None
    """Backend that computes (default: for each model the one that trained it)."""
    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, or cuda:N."""
    per_device_eval_batch_size: Count = 32
    """Windows per forward pass."""
    n_best_size: Count = 20
    """Start and end places considered, and answers listed, per question."""
    max_eval_samples: Count | None = None
    """Use only the first so many questions."""


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Find the temperature at which a fine-tuned model's probabilities say how many of its answers are right.

    It is found on one half of the file's texts, tried on the other, and kept with the checkpoint: `predict`, `ask`
    and `serve` use it from then on. No answer changes.

    Examples:
        calibrate runs/roberta --data_file dev.json
        calibrate runs/roberta/seed_1/checkpoint-best --data_file dev.json --device cpu
        calibrate served --task cjrc --data_file dev.json --seed 7
    """

    model: Annotated[Path, POSITIONAL]
    """Run directory, whose finished seeds are calibrated one by one; or a checkpoint, or what `export` made of it."""
    data_file: Path
    """Questions with answers that the model has not learned from."""
    task: str | None = None
    """Task (default: the one that the model was fine-tuned for)."""
    seed: Seed = 0
    """Seed of the draw of the half."""
    framework: Framework | None = None
    """Backend that computes (default: the one that trained the model)."""
    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, or cuda:N."""
    per_device_eval_batch_size: Count = 32
    """Windows per forward pass."""
    max_eval_samples: Count | None = None
    """Use only the first so many questions."""


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """Pack what an organiser reads: CLUE's archive of answers, or CAIL2019's archive with a program and its model.

    Examples:
        submit runs/cmrc runs/c3 --for clue --data_file cmrc2018_test_2k.json test1.1.json --output submit_me_1201.zip
        submit runs/roberta --for cmrc2018 --data_file cmrc2018_dev.json --output cmrc2018.zip
        submit runs/cjrc --for cail2019 --data_file dev.json --output cail2019.zip
    """

    runs: Annotated[tuple[Path, ...], POSITIONAL]
    """Run directory, of which the seed that is best on dev is taken; for clue also what predict, ensemble or ask_llm
    has written, and one for each of its tasks."""
    organiser: Annotated[Literal["clue", "cmrc2018", "cail2019"], Named("for")]
    """Who reads it (docs/submissions.md)."""
    data_file: tuple[Path, ...]
    """For clue the test file that each of RUNS answers (cmrc2018, c3, chid); for the others one that the packed
    program is tried on."""
    output: Path
    """Archive to write."""
