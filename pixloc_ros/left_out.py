"""What of an input was left out, counted by reason, so that one bad part costs that part."""

from __future__ import annotations

from collections import Counter


class LeftOut:
    """Counts of parts that could not be used. what: the word for one part, as in `image`."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.reasons: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, where: str = "", count: int = 1) -> None:
        """reason: the same words for the same kind; where: told of the first one."""
        self.reasons[reason] += count
        self._first.setdefault(reason, where)

    def __len__(self) -> int:
        return sum(self.reasons.values())

    @property
    def most(self) -> str:
        """The reason that took most, or an empty string."""
        return self._told(*self.reasons.most_common(1)[0]) if self.reasons else ""

    def as_text(self) -> str:
        """One line, or an empty string where nothing was left out."""
        if not self.reasons:
            return ""
        told = "; ".join(self._told(*entry) for entry in self.reasons.most_common())
        return f"left out {len(self)} {self.what}{'s' if len(self) > 1 else ''}: {told}"

    def _told(self, reason: str, count: int) -> str:
        where = self._first[reason]
        first = f" (the first: {where})" if where else ""
        return f"{count} {reason}{first}"
