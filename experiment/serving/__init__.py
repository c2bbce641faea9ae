"""Answers over HTTP: what is asked, how windows of many requests are computed together, and what a server refuses."""
