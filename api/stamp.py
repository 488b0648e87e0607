"""Who asked for something, as admission took it down: one annotation, compact JSON that a person can read too.

    {"user":"alice","groups":["team-a"],"time":"2026-11-21T10:13:10Z","review":"705ab4f5-6393-11e8-b7cc-42010a800002"}

The webhook alone writes it; users cannot (`webhook/mutation.py`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple, Self

USER_LIMIT = 512
"""Characters of a user name; a longer one is cut, and ends in `…`."""
GROUP_LIMIT = 128
"""Characters of a group's name; a longer one is left out, because half a name is somebody else's."""
GROUPS = 16
"""How many groups are taken down, the first by name."""
NAMED_GROUPS = 64
"""How many of those that some policy names, which go before all others."""
_EVERYBODYS = ("system:authenticated", "system:unauthenticated")
_ACCOUNTS = "system:serviceaccounts"
"""The groups that say of a ServiceAccount what its user name says already."""
_ACCOUNT = "system:serviceaccount:"
_ANONYMOUS = "system:anonymous"


class Stamp(NamedTuple):
    """One request as the API server vouched for it."""

    user: str = ""
    """`userInfo.username`; under impersonation the user who is impersonated, as everywhere in Kubernetes."""
    groups: tuple[str, ...] = ()
    """Sorted; those that distinguish somebody."""
    groups_omitted: int = 0
    """How many more there were."""
    time: str = ""
    """RFC 3339, in seconds."""
    review: str = ""
    """The AdmissionReview's uid: also in the webhook's log and in the API server's audit annotations."""

    @classmethod
    def of(cls, user: str, groups: Iterable[str], time: str, review: str, named: Container[str] = ()) -> Self:
        """The stamp of a request, within the limits; `named` are the groups that policies ask for."""
        telling = sorted({group for group in groups if group not in _EVERYBODYS and not group.startswith(_ACCOUNTS)})
        asked = [group for group in telling if group in named][:NAMED_GROUPS]
        others = [group for group in telling if group not in named and len(group) <= GROUP_LIMIT]
        kept = tuple(sorted(asked + others[: max(GROUPS - len(asked), 0)]))
        short = user if len(user) <= USER_LIMIT else user[: USER_LIMIT - 1] + "…"
        return cls(short, kept, len(telling) - len(kept), time, review)

    @property
    def all_groups(self) -> tuple[str, ...]:
        """`groups`, and those that follow from the user's name and are not taken down."""
        if not self.user:
            return ()
        if self.user == _ANONYMOUS:
            return (*self.groups, _EVERYBODYS[1])
        namespace, found, _ = self.user.removeprefix(_ACCOUNT).partition(":")
        is_account = found and self.user.startswith(_ACCOUNT)
        accounts = (_ACCOUNTS, f"{_ACCOUNTS}:{namespace}") if is_account else ()
        return (*self.groups, *accounts, _EVERYBODYS[0])

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an annotation; one that is no JSON object is a user's name, which is all that was stamped once."""
        try:
            found = json.loads(text)
        except ValueError:
            return cls(text)
        return cls.parse(found) if isinstance(found, dict) else cls(text)

    def text(self) -> str:
        """The annotation."""
        return json.dumps(self.manifest(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `manifest`; what has another type than it should is left out."""
        groups, omitted = data.get("groups"), data.get("groupsOmitted")
        return cls(
            user=_text(data, "user"),
            groups=tuple(group for group in groups if isinstance(group, str)) if isinstance(groups, list) else (),
            groups_omitted=omitted if isinstance(omitted, int) else 0,
            time=_text(data, "time"),
            review=_text(data, "review"),
        )

    def manifest(self) -> dict[str, Any]:
        """As an Operation carries it; what is not known is absent."""
        facts = {
            "user": self.user,
            "groups": list(self.groups),
            "groupsOmitted": self.groups_omitted,
            "time": self.time,
            "review": self.review,
        }
        return {key: value for key, value in facts.items() if value}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
