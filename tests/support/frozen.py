"""Imported last where processes are forked from: their garbage collections spare what was imported before."""

import gc

gc.collect()
gc.freeze()
