"""Operations of several transactions: their steps, their stored requests, and who finishes them."""
