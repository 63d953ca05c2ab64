"""What happened to keys: logged, counted, exported."""
