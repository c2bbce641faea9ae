"""One head for several tasks: each task's outputs keep their order, and learn from its own batches alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from preprocess.types import NO_TARGET, Batch, HeadSpec, Output, Outputs
from tasks.core.discovery import get_task
from tasks.core.joint import SharedHead

SPAN, KINDS = get_task("cmrc2018").problem.head, get_task("cjrc").problem.head
TAGS = HeadSpec((Output("tag", reads="token", size=3, loss="tag"),))


def _batch(**targets):
    inputs = {"input_ids": np.ones((2, 4), np.int32)}
    columns = {name: np.array(column, np.int32) for name, column in targets.items()}
    return Batch(np.arange(2, dtype=np.int32), np.arange(2, dtype=np.int32), inputs, columns)


def test_the_head_of_one_task_is_its_own():
    head = SharedHead({"cjrc": KINDS})
    batch, outputs = _batch(start=[1, 2]), Outputs(np.arange(2, dtype=np.int32), {})
    assert head.spec is KINDS and head.batch("cjrc", batch) is batch and head.outputs("cjrc", outputs) is outputs
    assert head.projections("cjrc") == {"span": "span", "kind": "kind"}


def test_several_tasks_share_no_output_and_keep_their_order():
    head = SharedHead({"cmrc2018": SPAN, "cjrc": KINDS, "names": TAGS})
    assert head.spec.rows == {"cmrc2018-span": 2, "cjrc-span": 2, "cjrc-kind": 3, "names-tag": 3}
    assert head.projections("cjrc") == {"span": "cjrc-span", "kind": "cjrc-kind"}


def test_a_batch_has_targets_for_its_own_task_alone():
    head = SharedHead({"cmrc2018": SPAN, "names": TAGS})
    batch = head.batch("cmrc2018", _batch(start=[1, 2], end=[3, 3]))
    assert batch.targets["cmrc2018-start"].tolist() == [1, 2]
    assert batch.targets["names-tag"].shape == (2, 4) and (batch.targets["names-tag"] == NO_TARGET).all()
    assert head.spec.n_targets([batch]) == {"cmrc2018-span": 2, "names-tag": 1}  # of none, 1 to divide by


def test_a_problem_reads_its_outputs_by_its_own_names():
    head = SharedHead({"cmrc2018": SPAN, "names": TAGS})
    values = {name: np.full(2, i, np.float32) for i, name in enumerate(o.name for o in head.spec.outputs)}
    own = head.outputs("names", Outputs(np.arange(2, dtype=np.int32), values))
    assert own.values.keys() == {"tag"} and own.values["tag"].tolist() == [2.0, 2.0]


def test_what_is_given_to_an_output_and_the_answers_mask_reach_the_shared_head():
    head = SharedHead({"squad": get_task("squad_v2").conditioned(5, 5).head, "names": TAGS})
    outputs = {output.name: output for output in head.spec.outputs}
    assert {o.given for o in outputs.values()} == {"", "squad-start"}
    plain, mask = _batch(tag=[[0, 1, 2, 0]] * 2), np.ones((2, 4), np.int32)
    batch = head.batch("names", replace(plain, inputs={**plain.inputs, "attention_mask": mask}))
    assert head.spec.answer_mask and batch.inputs["answer_mask"] is mask


def test_a_window_of_another_task_is_an_option_of_its_own_that_is_not_right():
    choice = HeadSpec((Output("option", reads="sequence", size=1, loss="choice"),))
    batch = SharedHead({"cmrc2018": SPAN, "c": choice}).batch("cmrc2018", _batch(start=[1, 2], end=[3, 3]))
    assert batch.targets["c-option"].tolist() == [0, 0]
