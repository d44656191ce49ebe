"""The command `python -m benchmarks.stub_engine`. Its first line on stdout is the address, written when it listens."""

import argparse

import uvloop

from benchmarks.stub_engine.server import Behaviour, serve


async def run(behaviour: Behaviour, port: int) -> None:
    server = await serve(behaviour, port)
    host, bound_port = server.sockets[0].getsockname()
    print(f"http://{host}:{bound_port}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub_engine", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--model", default="stub", help="name in /v1/models and in the metrics; any name is answered")
    parser.add_argument("--tokens-per-second", type=float, default=0, help="of each request; 0: as fast as possible")
    parser.add_argument("--tokens-per-write", type=int, default=16, help="what leaves together when there is no pace")
    parser.add_argument("--die-after", type=int, metavar="N", help="cut a request's connection after N tokens")
    parser.add_argument("--cached", type=int, default=0, metavar="N", help="prompt tokens reported as cached")
    parser.add_argument(
        "--remember",
        action="store_true",
        help="a prompt that comes again was cached",
    )
    parser.add_argument("--ignore-limit", type=int, metavar="N", help="write N tokens, whatever `max_tokens` says")
    arguments = parser.parse_args()
    behaviour = Behaviour(
        model=arguments.model,
        tokens_per_second=arguments.tokens_per_second or None,
        tokens_per_write=arguments.tokens_per_write,
        die_after_tokens=arguments.die_after,
        cached_tokens=arguments.cached,
        remembers_prompts=arguments.remember,
        writes_always=arguments.ignore_limit,
    )
    try:
        uvloop.run(run(behaviour, arguments.port))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
