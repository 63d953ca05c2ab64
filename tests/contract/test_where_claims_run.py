"""Under ATOMIC_REQUESTS a claim commits by itself, or joins the transaction Django opened."""

from collections import defaultdict
from typing import Any

import pytest

from django_idempotency.storage.records import Store
from tests.app.urls import ASYNC, DOORS
from tests.conftest import Post, atomic_requests_on

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

#: Where the claims of each door ran, for the summary of the run.
WHERE: defaultdict[str, set[str]] = defaultdict(set)
#: Doors that the URL's callback hides from Django.
JOINED = {"/below/", "/ninja/door/"}


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
def test_claim_commits_by_itself_unless_the_door_is_hidden(
    door: str, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates see a claim before the view ends only if it commits by itself."""
    joined: list[bool] = []
    insert = Store.insert

    def watched(self: Store, *args: Any) -> Any:
        joined.append(self.joined)
        return insert(self, *args)

    monkeypatch.setattr(Store, "insert", watched)
    with atomic_requests_on("default"):
        assert post(door, key).status_code == 201
    assert joined == [door in JOINED]
    WHERE["joined" if joined[0] else "by itself"].add(door)
