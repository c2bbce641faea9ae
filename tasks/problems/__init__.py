"""One file per kind of answer: how examples become windows and targets, and outputs predictions."""
