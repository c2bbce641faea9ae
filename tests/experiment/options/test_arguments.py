"""What was typed becomes options: every form of a flag, every mistake in one line, and every path in full."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml

from experiment.cli import main
from experiment.commands import COMMANDS
from experiment.options.arguments import split, understand
from experiment.options.fields import AT_LEAST_1, POSITIONAL, Named, NameOrPath, Rule, options_of
from experiment.options.flags import PlanOptions, StatsOptions, TrainOptions
from experiment.options.help import examples
from experiment.options.recipe import to_plain
from preprocess.base.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]

Once = Rule("each once", lambda values: len(set(values)) == len(values))


@dataclass(frozen=True, kw_only=True)
class Basket:
    """Things."""

    size: Annotated[int, AT_LEAST_1] | None = None
    """How many."""
    ripe: bool = False
    """Whether ripe."""
    washed: bool | None = None
    """Whether washed."""


@dataclass(frozen=True, kw_only=True)
class Shopping(Basket):
    """Go shopping."""

    shop: str
    """Where."""
    fruit: Literal["apple", "pear"] = "apple"
    """Which."""
    price: float = 1.5
    """What one costs."""
    days: Annotated[tuple[Annotated[int, AT_LEAST_1], ...], Once] = (1, 2)
    """When."""
    bag: Path | None = Path("~/bag")
    """Into what."""
    source: Annotated[NameOrPath | None, Named("from")] = None
    """Whence."""
    notes: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Lists to read."""


def _typed(*arguments):
    return understand(split(["--shop", "corner", *arguments], Shopping), Shopping)


def _refused(*arguments, given=("--shop", "corner")):
    with pytest.raises(UsageError) as caught:
        understand(split([*given, *arguments], Shopping), Shopping)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_left_out_has_its_default(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert _typed() == Shopping(shop="corner", bag=Path("/home/me/bag"))


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--size", "3"], "size", 3),
        (["--size=3"], "size", 3),
        (["--size", "010"], "size", 10),
        (["--size", "None"], "size", None),
        (["--size", "3", "--size", "4"], "size", 4),
        (["--price", "-1e-3"], "price", -1e-3),
        (["--fruit", "pear"], "fruit", "pear"),
        (["--days", "3", "1"], "days", (3, 1)),
        (["--days=3"], "days", (3,)),
        (["--days"], "days", ()),
        (["--from", "a/b"], "source", "a/b"),
        (["--shop", "- corner"], "shop", "- corner"),
        (["--shop", "-corner"], "shop", "-corner"),
        (["--shop", "-h"], "shop", "-h"),
        (["--shop=--corner"], "shop", "--corner"),
        (["--shop="], "shop", ""),
        (["--shop", ""], "shop", ""),
        (["a", "--size", "3", "b"], "notes", (Path("a"), Path("b"))),
        (["--", "--a", "-b"], "notes", (Path("--a"), Path("-b"))),
        (["--bag", "None"], "bag", None),
    ],
)
def test_a_flag_is_taken_in_every_form(arguments, field, value):
    assert getattr(_typed(*arguments), field) == value


@pytest.mark.parametrize("name", ["ripe", "washed"])
@pytest.mark.parametrize(
    ("after", "value"),
    [
        ([], True), (["true"], True), (["True"], True), (["TRUE"], True), (["yes"], True), (["on"], True),
        (["False"], False), (["false"], False), (["no"], False), (["off"], False),
    ],
)  # fmt: skip
def test_a_switch_takes_a_truth_value_or_none(name, after, value):
    assert getattr(_typed(f"--{name}", *after), name) is value
    assert getattr(_typed(f"--{name}", *after, "--size", "3"), name) is value
    if after:
        assert getattr(_typed(f"--{name}={after[0]}"), name) is value


def test_a_switch_is_undone_and_takes_no_file_for_its_value():
    options = _typed("--ripe", "--no_ripe", "--no-washed", "list")
    assert (options.ripe, options.washed, options.notes) == (False, False, (Path("list"),))
    assert _typed("--washed", "None").washed is None
    assert _typed("--ripe", "list").notes == (Path("list"),)


def test_dashes_between_words_are_underscores():
    options = split(["--learning-rate", "1", "--no-group-by-length"], COMMANDS["train"].options)
    assert [(given.name, given.texts) for given in options.given] == [
        ("learning_rate", ("1",)), ("group_by_length", ("false",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--siz", "3"], "unknown option --siz; did you mean '--size'?"),
        (["--si", "3"], "unknown option --si; did you mean '--size'?"),  # no abbreviations
        (["-s", "3"], "unknown option -s; options begin with two dashes"),
        (["--size", "abc"], "--size 'abc': a whole number was expected"),
        (["--size", "3.5"], "--size '3.5': a whole number was expected"),
        (["--size", ""], "--size '': a whole number was expected"),
        (["--size", "0"], "--size 0: must be at least 1"),
        (["--size"], "--size needs a value"),
        (["--size", "--ripe"], "--size needs a value; one that begins with two dashes is written --size=--ripe"),
        (["--price", "cheap"], "--price 'cheap': a number was expected"),
        (["--price", "nan"], "--price nan: must be finite"),
        (["--price", "None"], "--price 'None': a number was expected"),
        (["--fruit", "peer"], "--fruit 'peer': one of apple, pear was expected; did you mean 'pear'?"),
        (["--ripe=maybe"], "--ripe 'maybe': true or false was expected"),
        (["--no_ripe=true"], "--no_ripe takes no value"),
        (["--no_size"], "unknown option --no_size"),
        (["--days", "1", "1"], "--days 1 1: each once"),
        (["--days", "1", "x"], "--days 'x': a whole number was expected"),
        (["--bag", ""], "--bag '': a path was expected, found an empty text"),
        (["--from="], "--from '': a path was expected, found an empty text"),
        (["--size", "0", "--fruit", "plum"], "--size 0: must be at least 1; --fruit 'plum': one of"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(arguments, message):
    assert message in _refused(*arguments)


def test_what_must_be_given_is_named():
    assert _refused(given=()).startswith("give --shop (--help explains all)")
    assert "unknown option --shp; did you mean '--shop'?" in _refused("--shp", "x", given=())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--question", "哪里", "在"],
            "unexpected argument '在' after --question, which takes one value; quote a text",
        ),
        (["--bf16", "2"], "unexpected argument '2' after --bf16, which takes true, false or nothing"),
        (["--no-bf16", "true"], "unexpected argument 'true' after --no-bf16, which takes nothing"),
        (["x", "--bf16"], "unexpected argument 'x'"),
    ],
)
def test_an_argument_that_belongs_to_nothing_says_where_it_stands(arguments, message):
    options = COMMANDS["predict"].options
    with pytest.raises(UsageError) as caught:
        understand(split(["--task", "cmrc2018", *arguments], options), options)
    assert message in str(caught.value)


def test_several_values_are_not_written_with_an_equals_sign():
    options = COMMANDS["train"].options
    with pytest.raises(UsageError, match="unexpected argument '2' after --seeds, which takes several values without"):
        understand(split(["--seeds=1", "2"], options), options)


def test_home_is_expanded_in_every_path_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = _typed("--bag=~/b", "--from=~/model/", "~/list", "--shop", "~/corner")
    assert (options.bag, options.source) == (Path("/home/me/b"), "/home/me/model")
    assert (options.notes, options.shop) == ((Path("/home/me/list"),), "~/corner")
    assert _typed("--from", "a//b/").source == "a//b/"  # as it was typed
    assert "--from ~nobody-of-that-name/x: " in _refused("--from", "~nobody-of-that-name/x")


@pytest.mark.parametrize("flag", ["--bag", "--from", "--shop"])
def test_a_path_that_is_not_utf8_is_one_line(flag):
    path = os.fsdecode("/data/中文".encode("gbk"))
    message = _refused(flag, path)
    assert f"{flag}: /data/\\xd6\\xd0\\xce\\xc4 (as GBK: /data/中文) is not UTF-8; rename it" in message


def test_a_model_is_called_by_its_directory_which_must_be_utf8_too(tmp_path, monkeypatch):
    place = tmp_path / os.fsdecode(b"\xd6\xd0")
    (place / "model").mkdir(parents=True)
    monkeypatch.chdir(place)
    assert "--from: " in _refused("--from", ".") and "is not UTF-8" in _refused("--from", "model")
    assert _typed("--from", "owner/name").source == "owner/name"  # of the hub
    assert _typed("--bag", "model").bag == Path("model")  # relative paths of other files are no names


def test_a_home_that_is_not_utf8_is_one_line(monkeypatch):
    monkeypatch.setenv("HOME", os.fsdecode(b"/home/\xff"))
    assert _refused().startswith("--bag: /home/\\xff/bag is not UTF-8")


def test_help_is_asked_for_only_where_a_flag_may_stand():
    assert split(["--shop", "--help"], Shopping).asks_help
    assert split(["-h"], Shopping).asks_help
    assert not split(["--shop", "-h"], Shopping).asks_help
    assert not split(["--shop=--help", "--", "--help"], Shopping).asks_help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_the_help_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "runs/roberta").mkdir(parents=True)
    run = TrainOptions(task="cmrc2018", model_name_or_path="hfl/rbt3", output_dir=Path("runs/roberta"))
    (tmp_path / "runs/roberta/config.yaml").write_text(yaml.safe_dump(to_plain(run)))
    options = COMMANDS[command].options
    found = list(examples(options))
    assert len(found) == (2 if command == "tasks" else 3)
    for example in found:
        name, *arguments = shlex.split(re.split(" [<>]", example)[0])
        assert name == command
        understand(split(arguments, options), options)


def test_only_what_train_knows_is_passed_over_in_a_file_for_plan_and_nothing_on_the_command_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("task: cmrc2018\nlogging_steps: 5\nlogging_width: 5\n")
    with pytest.raises(UsageError, match="line 3: logging_width: unknown option$"):
        understand(split(["--config", str(path)], PlanOptions), PlanOptions)
    with pytest.raises(UsageError, match="^unknown option --logging_steps"):
        understand(split(["--task", "cmrc2018", "--logging_steps", "5"], PlanOptions), PlanOptions)


def test_predict_has_no_model_from_scratch(capsys):
    assert main(["predict", "--task", "cmrc2018", "--model_name_or_path", "x", "--config_name", "y"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown option --config_name")


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (StatsOptions, ["--task", "t", "--data_file", "d", "--tokenizer_name", "v", "--max_seq_length"]),
        (TrainOptions, ["--task", "t", "--output_dir", "o", "--seeds"]),
    ],
)
def test_a_list_of_which_one_is_needed_is_not_empty(options, arguments):
    with pytest.raises(UsageError, match="no value: at least one"):
        understand(split(arguments, options), options)


def test_every_option_is_documented_and_no_flag_has_two_meanings():
    for command in COMMANDS:
        known = options_of(COMMANDS[command].options)
        names = [option.name for option in known]
        assert len(set(names)) == len(names), command
        for option in known:
            assert option.help.endswith("."), f"{command} --{option.name}"
            assert not option.name.startswith("no_"), "which would be taken for the undoing of a switch"
        assert sum(option.positional for option in known) <= 1


def test_a_mistake_ends_with_status_2(capsys):
    assert main(["models", "--jsn"]) == 2
    assert capsys.readouterr().err == "error: unknown option --jsn; did you mean '--json'?\n"
