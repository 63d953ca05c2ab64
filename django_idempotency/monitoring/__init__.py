"""Events of keys, logged, counted, sent as signals and exported; and figures of the records."""
