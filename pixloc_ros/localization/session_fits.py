"""Which sessions of a map the place looks like now."""

from __future__ import annotations

import numpy as np

from pixloc_ros.mapping.health import Judgement
from pixloc_ros.mapping.sessions import Sessions

KEPT = 0.95
"""Factor on the counts with each fix, which forgets the old ones: about twenty are remembered."""
ENOUGH = 50.0
"""Judged observations from which on a session is compared with others."""
LEAST = 0.25
"""Smallest weight: a session that does not fit now is still tried where no other shows the view.
"""


class SessionFits:
    """Share of the observations of each session of a map that fixes found lately."""

    def __init__(self, sessions: Sessions) -> None:
        self._of = sessions.of
        self._judged, self._found = np.zeros((2, len(sessions.every)))

    def add(self, judgement: Judgement) -> None:
        """What one more fix says."""
        count = len(self._judged)
        session = self._of[judgement.shown_by]
        self._judged = KEPT * self._judged + np.bincount(session, minlength=count)
        self._found = KEPT * self._found + np.bincount(session, judgement.shown, minlength=count)

    def weights(self) -> np.ndarray | None:
        """Of all references (R,), as `Candidates` has them: the share found of their session in
        units of the best, squared; 1 where little is known. None while none differs.
        """
        known = self._judged >= ENOUGH
        if known.sum() < 2:
            return None
        share = self._found / np.maximum(self._judged, 1e-9)
        best = max(float(share[known].max()), 1e-9)
        weights = np.where(known, np.maximum((share / best) ** 2, LEAST), 1.0)
        return weights[self._of]
