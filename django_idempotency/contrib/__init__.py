"""One module for each library other than Django and REST framework that a project may use."""
