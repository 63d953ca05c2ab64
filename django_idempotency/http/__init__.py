"""Keys, scopes and fingerprints from requests; stored responses, replays and refusals."""
