"""Everything known about published checkpoints: their architecture, their names, their files, as data."""
