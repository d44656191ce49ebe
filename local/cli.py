"""The `studio` command. `up`, `down`, `status` and `logs` act on this machine and are here; every other verb speaks to
a gateway's API and lives in `commands/`."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local import commands, log_view, stack_process
from local.api import Api
from local.bootstrap import ensure_admin_key, ensure_embedded_weights
from local.output import progress
from local.paths import StatePaths
from local.ports import Ports
from local.sign_in import without_console
from local.stack import Stack
from local.state import ServiceState, StackPhase, StackState
from studio.errors import StudioError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="XPULINK AI Studio: an LLM cloud on your own GPUs.")
commands.register(app)
console = Console()
errors = Console(stderr=True, soft_wrap=True)

_POLL_SECONDS = 0.1
_MARKS = {
    ServiceState.READY: "[green]ready[/]",
    ServiceState.DONE: "[green]done[/]",
    ServiceState.FAILED: "[red]failed[/]",
    ServiceState.RESTARTING: "[yellow]restarting[/]",
    ServiceState.STARTING: "[cyan]starting[/]",
    ServiceState.STOPPING: "[cyan]stopping[/]",
}


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach/--foreground", help="Return when the stack serves.")] = True,
    wait_for_all: Annotated[bool, typer.Option("--wait-for-all", help="Wait for Dagster's UI, too.")] = False,
    port_offset: Annotated[int | None, typer.Option(help="Add this to every port.")] = None,
) -> None:
    """Start the whole cloud on this machine."""
    stack = Stack.from_environment(Ports(port_offset) if port_offset is not None else None)
    if stack_process.holder(stack.paths) is not None:
        console.print("The stack is already up.")
        process = None
    elif detach:
        process = stack_process.start_detached(stack)
    else:
        raise typer.Exit(stack_process.run(stack))
    try:
        failure = _follow_start(stack.paths, process, wait_for_all)
    except KeyboardInterrupt:
        if process is None:  # somebody else started it
            raise typer.Exit(130) from None
        stack_process.stop(stack.paths)
        errors.print("Interrupted: what had been started is stopped again; no process is left.")
        raise typer.Exit(130) from None
    if failure is not None:
        errors.print(failure, markup=False, highlight=False)
        raise typer.Exit(1)
    ensure_admin_key(stack)
    with progress("Embedded models") as say:
        ensure_embedded_weights(Api.from_environment(), say)
    _print_addresses(stack.paths)
    way_in = without_console(stack.gateway_url) or "studio signin-link create --ops  (prints a link that is good once)"
    console.print(f"sign in  {way_in}", highlight=False, soft_wrap=True)


@app.command()
def down() -> None:
    """Stop everything; data stays."""
    paths = StatePaths.from_environment()
    was_running = stack_process.holder(paths) is not None
    with Live(console=console, transient=True, auto_refresh=False) as live:
        stray = stack_process.stop(paths, lambda state: live.update(_table(state), refresh=True))
    if was_running:
        console.print("The stack is down. Its data stays in", str(paths.root))
    elif stray:
        console.print(f"The supervisor was gone; ended {stray} processes that it had left.")
    else:
        console.print("Nothing is running.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show each service, and where to go."""
    paths = StatePaths.from_environment()
    state = stack_process.observe(paths)
    if as_json:
        print(json.dumps(_report(paths, state), indent=1))
        return
    if state is None or not state.services:
        console.print("No stack has been started here. Start one with `studio up`.")
        return
    console.print(_table(state))
    if state.phase is StackPhase.READY:
        _print_addresses(paths)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="One service or engine; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="Last lines of each log.")] = 20,
) -> None:
    """Show what services have logged."""
    folder = StatePaths.from_environment().logs
    available = log_view.available(folder)
    if service is not None and service not in available:
        errors.print(f"There is no log of {service}. There are: {', '.join(available) or 'none yet'}.")
        raise typer.Exit(1)
    names = [service] if service else available
    for line in log_view.last_lines(folder, names, lines):
        print(line)
    if follow:
        try:
            for line in log_view.new_lines(folder, names):
                print(line, flush=True)
        except KeyboardInterrupt:
            return


def main() -> None:
    """Run the command; an error that the user can act on is one sentence, not a traceback."""
    try:
        app()
    except StudioError as error:
        errors.print(str(error), markup=False, highlight=False)
        raise SystemExit(1) from None


def _follow_start(paths: StatePaths, process: subprocess.Popen[bytes] | None, wait_for_all: bool) -> str | None:
    """Show progress until requests can be answered; the sentence that says why they cannot, or None."""
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            ended = stack_process.holder(paths) is None if process is None else process.poll() is not None
            state = stack_process.observe(paths)
            live.update(_table(state), refresh=True)
            if state is not None and _is_up(state, wait_for_all):
                return None
            if ended:
                reason = state.failure if state else None
                return reason or f"The supervisor ended; see {paths.log('supervisor')}."
            time.sleep(_POLL_SECONDS)


def _is_up(state: StackState, wait_for_all: bool) -> bool:
    if state.phase is not StackPhase.READY:
        return False
    up = (ServiceState.READY, ServiceState.DONE)
    return not wait_for_all or all(status.state in up for status in state.services.values())


def _table(state: StackState | None) -> Table:
    table = Table("service", "state", "pid", "port", "restarts", box=None, pad_edge=False)
    for name, status in (state.services if state else {}).items():
        mark = _MARKS.get(status.state, f"[dim]{status.state}[/]")
        table.add_row(name, mark, str(status.pid or ""), str(status.port or ""), str(status.restarts or ""))
    return table


def _stack(paths: StatePaths, state: StackState | None) -> Stack:
    """The stack as it was started, which may be with other ports than this shell would choose."""
    return Stack.from_environment(Ports(state.port_offset) if state else None)


def _report(paths: StatePaths, state: StackState | None) -> dict[str, object]:
    stack = _stack(paths, state)
    return {
        "phase": state.phase if state else StackPhase.STOPPED,
        "gateway_url": stack.gateway_url,
        "console_url": stack.console_url,
        "dagster_url": stack.dagster_url,
        "database_url": stack.database_url("auditor"),
        "services": {
            name: {"state": status.state, "pid": status.pid, "port": status.port}
            for name, status in (state.services if state else {}).items()
        },
    }


def _print_addresses(paths: StatePaths) -> None:
    stack = _stack(paths, stack_process.observe(paths))
    console.print(f"gateway  {stack.gateway_url}\nconsole  {stack.console_url}\nDagster  {stack.dagster_url}")
