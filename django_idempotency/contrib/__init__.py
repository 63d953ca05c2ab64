"""One module for each library that is not Django."""
