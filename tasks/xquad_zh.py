"""XQuAD-zh: a part of SQuAD 1.1 dev in professional Chinese translation (Artetxe et al., 2020), for evaluation only.

Scored with the Chinese metric: SQuAD's own splits words at blanks, which Chinese does not have.
"""

from __future__ import annotations

from dataclasses import replace

from preprocess.readers.mrc import read_examples
from tasks.cmrc2018 import TASK as CMRC2018
from tasks.core.task import Source

TASK = replace(
    CMRC2018,
    name="xquad_zh",
    version="1",
    title="XQuAD-zh",
    hub_dataset="google/xquad",
    read=read_examples,
    sources=(
        Source(
            split="test",
            file_name="xquad.zh.json",
            url="https://raw.githubusercontent.com/deepmind/xquad/master/xquad.zh.json",
            licence="CC BY-SA 4.0",
            sha256="691d0b3359bc6b8faa8de931dfdfe21d50a65861ae348e32a0d1a0190b0c8835",
            n_bytes=808652,
        ),
    ),
)
