"""The life of a job, as pure functions over data. No clock, disk, network or process in here."""
