"""The run queue, with the name of the person who launched a run.

The name comes from the authenticating proxy in front of Dagster's webserver, which must set the header and drop one
sent by the client. A `user` tag typed into the launchpad, or inherited by a re-execution, proves nothing: it is
overwritten.
"""

from __future__ import annotations

import re

import dagster as dg
from dagster._core.run_coordinator import SubmitRunContext

USER_HEADER = "X-Forwarded-Email"
USER_TAG = "user"
UNVERIFIED = "unverified"


class AuditedRunCoordinator(dg.QueuedRunCoordinator):
    """Named in dagster.yaml as the run coordinator of the instance."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag the run with its user, then queue it."""
        run = context.dagster_run
        email = context.get_request_header(USER_HEADER)
        if email:
            self._instance.add_run_tags(run.run_id, {USER_TAG: as_tag(email)})
        elif USER_TAG in run.tags:
            self._instance.add_run_tags(run.run_id, {USER_TAG: UNVERIFIED})
        return super().submit_run(context)


def as_tag(email: str) -> str:
    """An address in the letters that a run tag may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", email.replace("@", ".at."))[:63]
