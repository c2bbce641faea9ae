"""Asking a language model over HTTP: prompts, requests, replies, and what of a reply is the answer."""
