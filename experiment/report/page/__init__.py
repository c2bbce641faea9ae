"""The report: a page of HTML that opens from disk, with everything in it."""
