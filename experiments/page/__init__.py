"""The report page: its frame, charts and sheets as parts of it, and the slider that moves a boundary."""
