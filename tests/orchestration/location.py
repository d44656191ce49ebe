"""Our code location under test: ticks its sensors and carries out what they ask for, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from orchestration.build import build_defs

RunConfig = Mapping[str, Any] | dg.RunConfig | None


@dataclass(frozen=True)
class Location:
    """The definitions over the test's resources, with an instance that forgets."""

    resources: dict[str, object]
    instance: dg.DagsterInstance

    @property
    def defs(self) -> dg.Definitions:
        """The definitions."""
        return build_defs(self.resources)

    @contextmanager
    def tick(self, sensor_name: str, cursor: str | None = None) -> Iterator[dg.SensorExecutionData]:
        """What a sensor says now, after a tick that left this cursor."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance, resources=self.resources, repository_def=repository, cursor=cursor
        ) as context:
            yield repository.get_sensor_def(sensor_name).evaluate_tick(context)

    def asks(self, sensor_name: str) -> list[dg.RunRequest]:
        """The runs that a sensor asks for now."""
        with self.tick(sensor_name) as said:
            return list(said.run_requests or [])

    def carry_out(self, request: dg.RunRequest, job_name: str) -> dg.ExecuteInProcessResult:
        """Run what a sensor asked for."""
        return self.run(job_name, request.partition_key, request.run_config, request.tags)

    def run(
        self,
        job_name: str,
        partition_key: str | None = None,
        run_config: RunConfig = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job; what it raises is raised."""
        job = self.defs.resolve_job_def(job_name)
        return job.execute_in_process(
            run_config=run_config, partition_key=partition_key, tags=tags, instance=self.instance
        )
