"""The card of a run, for the hub."""

from __future__ import annotations

from pathlib import Path

from experiment.io.outputs import check_directory
from experiment.io.streams import say
from experiment.options.flags import CardOptions
from experiment.report.card import README, Card, make_card
from experiment.training.record import seed_directory
from experiment.training.rundir import BEST
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text


def card(options: CardOptions) -> None:
    """Write the card, and put it on the hub if so asked.

    Raises:
        UsageError: if the run has no score, a file can't be written, or the hub does not take it.
    """
    if options.push_to_hub is None and (options.weights or options.private):
        raise UsageError("--weights and --private are about --push_to_hub; give that, too")
    output = options.run if options.output is None else options.output
    check_directory("--output", output, (README,))
    made = make_card(options.run, options.seed, options.dataset_id)
    checkpoint = seed_directory(options.run, made.record.seed) / BEST
    if options.weights and not checkpoint.is_dir():
        raise UsageError(f"--weights: {checkpoint} is not there; leave --weights out, or give another --seed")
    for name, text in made.files.items():
        write_text(output / name, text)
    for note in made.notes:
        say(note)
    print(f"{output / README}: seed {made.record.seed}" + _others(made))
    if options.push_to_hub is not None:
        address = _push(made, options.push_to_hub, checkpoint if options.weights else None, options.private)
        print(f"pushed to {address}")


def _others(made: Card) -> str:
    others = [name for name in made.files if name != README]
    return f", and {', '.join(others)}" if others else ""


def _push(made: Card, repo_id: str, checkpoint: Path | None, private: bool) -> str:
    """Commit the files to a repository, which is made if it is not there, and return its address."""
    from huggingface_hub import CommitOperationAdd, HfApi

    files: dict[str, bytes | str] = {name: text.encode() for name, text in made.files.items()}
    if checkpoint is not None:
        files |= {path.name: str(path) for path in sorted(checkpoint.iterdir()) if path.is_file()}
    api = HfApi(library_name="chinese-mrc")
    try:
        address = api.create_repo(repo_id, private=private or None, exist_ok=True)
        api.create_commit(
            str(address.repo_id),
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()],
            commit_message=f"Add the {'checkpoint and its ' if checkpoint is not None else ''}card",
        )
    except Exception as error:  # whatever the hub's HTTP library of the day raises; the files are written already
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--push_to_hub {repo_id}: {reason}; log in with `hf auth login`, or upload the files yourself"
        ) from None
    return str(address)
