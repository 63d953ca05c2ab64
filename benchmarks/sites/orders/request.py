"""The request that every caller sends: its body, and its headers."""

import json

PATH, BARE_PATH, HEADER = "/orders/", "/bare/", "Idempotency-Key"
CAKES = [
    {"cake": "Sachertorte, whole", "pieces": 12, "price": "48.00"},
    {"cake": "Apple strudel with vanilla sauce", "pieces": 2, "price": "13.80"},
    {"cake": "Gugelhupf", "pieces": 1, "price": "21.50"},
]
BODY = json.dumps(
    {
        "customer": "Erika Mustermann",
        "street": "Heidestrasse 17",
        "city": "51147 Koeln",
        "cakes": CAKES,
    }
).encode()
