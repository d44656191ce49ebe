"""Routing policies over hundreds of virtual replicas: what prefix affinity with a bounded load is worth.

Hypothesis. With conversations that come back, sending each to where its prefix is cached about doubles the hit rate of
policies that look at load alone, and so shortens the time to the first token, although the load is a little less even.
Sketch. 200 replicas, 4 turns a conversation: a policy that is blind to prefixes finds a conversation's history with
probability 1/200 and only the tenant's system prompt everywhere (where it has not been evicted): a hit rate of perhaps
30 %. Affinity finds both unless its replica is over the bound: 60 %. Prefill is what is saved.
Peers, on the same trace: round robin, least load (outstanding requests, exact and global), power of two choices, and
the same ring without a bound. Ours is `serving/balance.py` itself, with what it knows of a request in production: the
bytes of its prompt and no limit on its answer.
Control: least load and ours with the caches switched off. What differs there is the price of affinity.
The model of a replica. SLOTS requests run, others queue. Prefills run one after the other, at
PREFILL_TOKENS_PER_SECOND over what is not cached; then tokens come at a pace that falls with the batch. The cache is
LRU over blocks of 64 tokens. Roughly a 32 B model on one 80 GB card.
The trace, from a printed seed: tenants of unequal size with a system prompt each; conversations whose next turn comes a
while after the last answer; applications whose calls all begin alike; heavy-tailed lengths; bursts of three times the
usual rate. Played at a busy and at a quiet load.
Known limits. One router with a view of everything that it sent; in production each gateway process sees its own
requests. Engines here neither preempt nor mix prefill with decoding. It is a generated trace, not anybody's.

Run: make bench NAME=routing, or python -m benchmarks.routing [--seed 7] [--replicas 200] [--seconds 80]."""

import argparse
import json
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from statistics import mean
from time import thread_time
from uuid import UUID

from rich.console import Console
from rich.table import Table

from serving.balance import Balancer, Full, Place, Ring, Work, point
from serving.fleet.view import Fleet, Replica, Variant
from serving.routing import Target
from serving.tokens.weighing import TYPICAL_ANSWER_TOKENS
from studio import clock

BLOCK_TOKENS = 64
SLOTS = 16
CACHE_BLOCKS = 1600  # 102,400 tokens
PREFILL_TOKENS_PER_SECOND = 3000.0
SECONDS_PER_TOKEN = 0.020  # of an answer, alone
SECONDS_PER_TOKEN_AND_NEIGHBOUR = 0.001
BYTES_PER_TOKEN = 4

TENANTS = 60
TEMPLATES = 0.3  # of all conversations: one call of an application that puts its template into each first message
CONVERSATIONS_PER_SECOND_AND_REPLICA = 0.4  # busy: bursts fill the batches
BURST_EVERY_SECONDS, BURST_SECONDS, BURST_FACTOR = 60.0, 10.0, 3.0
THINK_SECONDS = 12.0
CONTEXT_TOKENS = 16_384

LOADS = {"busy": 1.0, "quiet": 0.4}  # times that


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user adds to a conversation, and what the model answers."""

    question_tokens: int
    answer_tokens: int
    think_seconds: float  # before it is asked


@dataclass(frozen=True, slots=True)
class Conversation:
    """Its prompt is the tenant's system prompt and everything said so far."""

    number: int
    tenant: int
    system_tokens: int
    is_template: bool  # all calls of one application begin alike, and have one turn
    begins_at: float
    turns: tuple[Turn, ...]


@dataclass(slots=True)
class Request:
    """One turn, on its way."""

    conversation: Conversation
    turn: int
    prompt_tokens: int
    arrived_at: float
    cached_tokens: int = 0
    prefill_at: float = 0.0
    first_token_at: float = 0.0

    @property
    def answer_tokens(self) -> int:
        return self.conversation.turns[self.turn].answer_tokens

    def blocks(self, tokens: int) -> Iterator[int]:
        """Names of the full blocks of its first tokens: the tenant's as far as the system prompt goes, then its own."""
        shared, own = self.conversation.tenant << 40, (1 << 60) | (self.conversation.number << 20)
        whole = self.conversation.system_tokens // BLOCK_TOKENS
        for index in range(tokens // BLOCK_TOKENS):
            yield (shared if index < whole else own) | index


class PrefixCache:
    """Blocks, least recently used first. A prefix is cached up to its first missing block."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def cached_tokens(self, blocks: Iterator[int]) -> int:
        found = 0
        for block in blocks:
            if block not in self._blocks:
                break
            found += 1
        return found * BLOCK_TOKENS

    def keep(self, blocks: Iterator[int]) -> None:
        for block in blocks:
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


@dataclass(slots=True)
class Engine:
    """One virtual replica."""

    cache: PrefixCache
    running: int = 0
    prefill_free_at: float = 0.0
    waiting: deque[Request] = field(default_factory=deque)

    def admit(self, request: Request, now: float) -> float:
        """Give it a slot; when its answer will be complete."""
        self.running += 1
        request.cached_tokens = self.cache.cached_tokens(request.blocks(request.prompt_tokens))
        self.cache.keep(request.blocks(request.prompt_tokens))
        request.prefill_at = max(now, self.prefill_free_at)
        uncached = request.prompt_tokens - request.cached_tokens
        request.first_token_at = self.prefill_free_at = request.prefill_at + uncached / PREFILL_TOKENS_PER_SECOND
        pace = SECONDS_PER_TOKEN + SECONDS_PER_TOKEN_AND_NEIGHBOUR * self.running
        return request.first_token_at + request.answer_tokens * pace

    @property
    def outstanding(self) -> int:
        return self.running + len(self.waiting)


Choose = Callable[[Request, list[Engine], float], int | None]  # a replica's number, or refused
End = Callable[[Request, float], None]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who takes the next request, and what is to be done at its end."""

    name: str
    choose: Choose
    end: End = lambda request, now: None


def round_robin(replicas: int, seed: int) -> Policy:
    turn = iter(range(1 << 62))
    return Policy("round robin", lambda request, engines, now: next(turn) % replicas)


def least_load(replicas: int, seed: int) -> Policy:
    dice = random.Random(seed)

    def choose(request: Request, engines: list[Engine], now: float) -> int:
        start = dice.randrange(replicas)  # of those that are equal not always the first
        loads = [engine.running + len(engine.waiting) for engine in (*engines[start:], *engines[:start])]
        return (loads.index(min(loads)) + start) % replicas

    return Policy("least load", choose)


def power_of_two(replicas: int, seed: int) -> Policy:
    dice = random.Random(seed)

    def choose(request: Request, engines: list[Engine], now: float) -> int:
        one, two = dice.randrange(replicas), dice.randrange(replicas)
        return one if engines[one].outstanding <= engines[two].outstanding else two

    return Policy("power of two", choose)


def unbounded_ring(replicas: int, seed: int) -> Policy:
    ring = Ring(range(replicas))
    return Policy("ring, no bound", lambda request, engines, now: next(ring.walk(point(beginning(request)))))


def ours(replicas: int, seed: int) -> Policy:
    """`serving/balance.py`, as a gateway calls it."""
    dice = random.Random(seed)
    members = tuple(
        Replica(UUID(int=dice.getrandbits(128)), "m", "ready", "", "", clock.now(), max_num_seqs=SLOTS)
        for _ in range(replicas)
    )
    numbers = {member.id: number for number, member in enumerate(members)}
    fleet, target, balancer = Fleet(replicas={"m": members}), Target(_variant()), Balancer()
    places: dict[int, Place] = {}

    def choose(request: Request, engines: list[Engine], now: float) -> int | None:
        work = Work(TYPICAL_ANSWER_TOKENS, lambda: beginning(request))
        try:
            replica = balancer.choose(fleet, target, work, frozenset(), now)
        except Full:
            return None
        assert replica is not None
        body_bytes = request.prompt_tokens * BYTES_PER_TOKEN
        places[id(request)] = balancer.take(fleet, target, replica, work, body_bytes, now)
        return numbers[replica.id]

    def end(request: Request, now: float) -> None:
        places.pop(id(request)).leave(now, answered=True)

    return Policy("ours", choose, end)


POLICIES = (round_robin, least_load, power_of_two, unbounded_ring, ours)


def beginning(request: Request) -> bytes:
    """What `serving/tokens/weighing.py` makes of the system prompt and the first question."""
    asked_by = request.conversation
    return b"%d %d" % (asked_by.tenant, -1 if asked_by.is_template else asked_by.number)


def trace(seed: int, replicas: int, seconds: float, load: float) -> list[Conversation]:
    """Conversations by their beginning."""
    dice = random.Random(seed)
    system_tokens = [min(6000, int(dice.lognormvariate(6.8, 0.8))) for _ in range(TENANTS)]
    weights = [1 / (rank + 1) for rank in range(TENANTS)]
    usual = replicas * CONVERSATIONS_PER_SECOND_AND_REPLICA * load
    conversations: list[Conversation] = []
    now = 0.0
    while True:
        is_burst = now % BURST_EVERY_SECONDS < BURST_SECONDS and now > BURST_EVERY_SECONDS
        now += dice.expovariate(usual * (BURST_FACTOR if is_burst else 1.0))
        if now > seconds:
            return conversations
        tenant = dice.choices(range(TENANTS), weights)[0]
        is_template = dice.random() < TEMPLATES
        count = 1 if is_template else min(40, 1 + int(dice.paretovariate(1.2)) * dice.randrange(3))
        turns = tuple(_turn(dice) for _ in range(count))
        number, system = len(conversations), system_tokens[tenant]
        conversations.append(Conversation(number, tenant, system, is_template, now, turns))


def _turn(dice: random.Random) -> Turn:
    is_document = dice.random() < 0.08
    question = dice.lognormvariate(8.0, 0.6) if is_document else dice.lognormvariate(4.3, 0.9)
    answer = min(2000, 1 + int(dice.lognormvariate(5.1, 0.8)))
    return Turn(min(8000, 4 + int(question)), answer, dice.expovariate(1 / THINK_SECONDS))


@dataclass(frozen=True, slots=True)
class Figures:
    """What one policy made of the trace. `imbalance`: the fullest replica over the mean, averaged over the seconds."""

    requests: int
    refused: int
    hit_rate: float
    queue_ms_p50: float
    queue_ms_p99: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    imbalance: float
    choice_us: float  # CPU time of one choice


def simulate(
    conversations: list[Conversation], policy: Policy, replicas: int, seconds: float, cache_blocks: int = CACHE_BLOCKS
) -> Figures:
    """Play the trace to its end. Figures are of what arrived after a quarter of the time, with caches warm."""
    engines = [Engine(PrefixCache(cache_blocks)) for _ in range(replicas)]
    events: list[tuple[float, int, Request, int | None]] = []  # at, order, request, the replica where it ends
    for conversation in conversations:
        _ask(events, conversation, 0, conversation.begins_at, conversation.system_tokens)
    counted: list[Request] = []
    imbalances: list[float] = []
    refused, choosing, chosen, next_sample = 0, 0.0, 0, seconds / 4
    while events:
        now, _, request, ends_at = heappop(events)
        if next_sample <= now < seconds:
            outstanding = [engine.outstanding for engine in engines]
            imbalances.append(max(outstanding) / max(mean(outstanding), 1e-9))
            next_sample = now + 1
        if ends_at is None:
            began = thread_time()
            number = policy.choose(request, engines, now)
            choosing += thread_time() - began
            chosen += 1
            if number is None:
                refused += 1
                continue
            engine = engines[number]
            engine.waiting.append(request)
            if seconds / 4 <= now < seconds:
                counted.append(request)
        else:
            number, engine = ends_at, engines[ends_at]
            engine.running -= 1
            so_far = request.prompt_tokens + request.answer_tokens
            engine.cache.keep(request.blocks(so_far))
            policy.end(request, now)
            _ask(events, request.conversation, request.turn + 1, now, so_far)
        while engine.waiting and engine.running < SLOTS:
            admitted = engine.waiting.popleft()
            heappush(events, (engine.admit(admitted, now), _order(admitted), admitted, number))
    queued = sorted(request.prefill_at - request.arrived_at for request in counted)
    first = sorted(request.first_token_at - request.arrived_at for request in counted)
    return Figures(
        requests=len(counted),
        refused=refused,
        hit_rate=round(sum(one.cached_tokens for one in counted) / sum(one.prompt_tokens for one in counted), 3),
        queue_ms_p50=_milliseconds(queued, 0.5),
        queue_ms_p99=_milliseconds(queued, 0.99),
        ttft_ms_p50=_milliseconds(first, 0.5),
        ttft_ms_p99=_milliseconds(first, 0.99),
        imbalance=round(mean(imbalances), 2),
        choice_us=round(choosing / chosen * 1e6, 1),
    )


def _ask(
    events: list[tuple[float, int, Request, int | None]], conversation: Conversation, turn: int, now: float, so_far: int
) -> None:
    """The next turn, if there is one and the context has room for it."""
    if turn >= len(conversation.turns):
        return
    said = conversation.turns[turn]
    prompt_tokens = so_far + said.question_tokens
    if prompt_tokens + said.answer_tokens <= CONTEXT_TOKENS:
        at = now + (said.think_seconds if turn else 0.0)
        request = Request(conversation, turn, prompt_tokens, at)
        heappush(events, (at, _order(request), request, None))


def _order(request: Request) -> int:
    """Of events at one instant. The same in every run."""
    return request.conversation.number * 64 + request.turn


def _milliseconds(ordered: list[float], quantile: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000, 1)


def _variant() -> Variant:
    return Variant(
        id="m",
        model_id="m",
        name="",
        publisher="",
        task="chat",
        tier="base",
        licence="",
        licence_url="",
        context_tokens=CONTEXT_TOKENS,
        max_output_tokens=None,
        deployed=True,
        served_by=None,
        takes_adapters=False,
        sunset_on=None,
        notice=None,
        listed_at=clock.now(),
        desired_replicas=0,
        site_replicas=0,
        closed_replicas=0,
        calendar_id=None,
        warmup_seconds=[],
    )


def ratios(of: dict[str, Figures]) -> dict[str, float]:
    """Ours over the peer's at each load: below 1 is better, except for hits."""
    result: dict[str, float] = {}
    for load in LOADS:
        mine = of[f"{load}: ours"]
        for peer in ("round robin", "least load", "power of two"):
            name, theirs = f"{load}_over_{peer.replace(' ', '_')}", of[f"{load}: {peer}"]
            result[f"hit_rate_{name}"] = round(mine.hit_rate / theirs.hit_rate, 2)
            result[f"ttft_p50_{name}"] = round(mine.ttft_ms_p50 / theirs.ttft_ms_p50, 3)
            result[f"ttft_p99_{name}"] = round(mine.ttft_ms_p99 / theirs.ttft_ms_p99, 3)
            result[f"queue_p99_{name}"] = round(mine.queue_ms_p99 / theirs.queue_ms_p99, 3)
            result[f"imbalance_{name}"] = round(mine.imbalance / theirs.imbalance, 2)
    control = of["no cache: ours"].ttft_ms_p99 / of["no cache: least load"].ttft_ms_p99
    return result | {"control_ttft_p99_without_caches_over_least_load": round(control, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description="Routing policies, simulated.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--replicas", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=80, help="simulated")
    given = parser.parse_args()
    seed, replicas, seconds = given.seed, given.replicas, given.seconds
    of: dict[str, Figures] = {}
    for load, factor in LOADS.items():
        conversations = trace(seed, replicas, seconds, factor)
        turns = sum(len(one.turns) for one in conversations)
        print(f"seed {seed}, {load}: {len(conversations)} conversations, {turns} turns, {replicas} replicas")
        for make in POLICIES:
            policy = make(replicas, seed)
            of[f"{load}: {policy.name}"] = simulate(conversations, policy, replicas, seconds)
    for make in (least_load, ours):  # on the last trace, the quiet one: without caches the other is too much
        policy = make(replicas, seed)
        of[f"no cache: {policy.name}"] = simulate(conversations, policy, replicas, seconds, cache_blocks=0)
    table = Table("", *(name.replace("_", " ") for name in Figures.__dataclass_fields__), padding=0)
    for name, figures in of.items():
        table.add_row(name, *(f"{value:,}" for value in asdict(figures).values()))
    Console(width=132).print(table)
    figures_of = {name: asdict(figures) for name, figures in of.items()}
    print(json.dumps({"name": "routing", "seed": seed, "ratios": ratios(of), "figures": figures_of}))


if __name__ == "__main__":
    main()
