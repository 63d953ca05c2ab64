"""The protocol of a claim: who may run, who gets a replay, who waits."""
