"""What every site sells: the model, the view around one INSERT, and the customer."""
