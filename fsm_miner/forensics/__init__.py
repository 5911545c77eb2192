"""What became of a job, told from its journal and its folder: stories, reasons, bundles, pages. Read-only."""
