"""`oss-tailer run`: groups of objects that flow into sinks, as a file says, until it is told to end.

Here is what belongs to the process as a whole: beginning, reading the file again, ending in time, and the verdict
whether all is well. How one group is followed is in `fleet`, what happens at a sink in `outlets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tailer import logs
from tailer.checkpoints import Checkpoints
from tailer.configfile import ServerConfig, load_config, service_settings
from tailer.core.schedule import back_off
from tailer.errors import ConfigError, OutputClosed, SinkError, TailerError
from tailer.filechange import stamp, watching
from tailer.fleet import Fleet, Governor
from tailer.oss.client import connect
from tailer.outlets import open_outlet
from tailer.status import ServiceStatus
from tailer.systemd import Notifier
from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from tailer.configfile import GroupConfig, ServiceConfig, SinkConfig
    from tailer.core.position import ObjectMeta, ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tailer.metrics import ServiceMetrics
    from tailer.oss.client import Client
    from tailer.oss.messages import ListPage
    from tailer.outlets import SinkOutlet
    from tailer.status import GroupStatus, ObjectStatus, Observer

_log = logging.getLogger(__name__)

DRAINED, CUT_SHORT = 0, 1
_OWNER = "oss-tailer run"
_TICK = 1.0  # seconds
_BETWEEN_RELOADS = 0.5  # seconds: what asks for more is asked once
_LONG_AGO = 600.0  # seconds: whatever failed before that, a group fails for the first time
_STANDSTILL = 30.0  # seconds without a sign of life
_MOST_OBJECTS = 200  # in a status, where no more of them have metrics
_MOST_REQUESTS = 256  # at once, and so connections, however many groups there are


class Port(Protocol):
    """An open port (`web.serve`)."""

    async def close(self) -> None:
        """Stop serving."""
        ...


class Service:
    """All that one file asks for. `run` it; it is what its port serves (`web.server.Served`)."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        open_port: Callable[[Service, ServerConfig], Awaitable[Port]] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        """`open_port` serves the service where its configuration says; it raises ConfigError when it cannot."""
        self._path = Path(path)
        self._open_port = open_port
        self._notifier = notifier or Notifier()
        self._started_at = time.time()
        self._config_error: str | None = None
        self._metrics: ServiceMetrics | None = None
        self._relay = _Relay()
        self._port: Port | None = None
        self._client: Client | None = None
        self._sinks: dict[str, SinkOutlet] = {}
        self._stores: dict[str, Checkpoints] = {}
        self._groups: dict[str, _Group] = {}
        self._requests = asyncio.Semaphore(_MOST_REQUESTS)
        self._reload_wanted = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._in_a_hurry = asyncio.Event()
        self._told_at: float | None = None
        self._ended_by: TailerError | None = None

    async def run(self) -> int:
        """Until `stop`: 0 when all that was in hand is delivered and committed, 1 when that took too long.

        Raises ConfigError and CheckpointError when it cannot begin, OutputClosed when nobody reads what it prints.
        """
        try:
            await self._begin()
            await self._until_stopped()
        finally:
            drained = await self._end()
        _log.info("stopped" if drained else "stopped before all in hand was delivered: it comes again")
        if self._ended_by is not None:
            raise self._ended_by
        return DRAINED if drained else CUT_SHORT

    def stop(self) -> None:
        """End when what is in hand is delivered, or after the configured time; called again, at once."""
        if self._stopping.is_set():
            self._in_a_hurry.set()
        else:
            self._told_at = time.monotonic()
        self._stopping.set()

    def reload(self) -> None:
        """Read the file again, soon. However often it is called, it is once or twice a second."""
        self._reload_wanted.set()

    # --- from the beginning to the end

    async def _begin(self) -> None:
        self._seen = stamp(self._path)
        config = load_config(self._path)
        logs.set_up(config.log_format, config.log_level)
        self._config = replace(config, server=self._possible(config.server))
        self._make_metrics(self._config.server)
        self._governor = Governor(config.limits)
        self._client = self._connected(config)
        self._sinks = {name: self._opened(one) for name, one in config.sinks.items()}
        self._stores = self._own(config, config.groups)
        self._groups = {name: _Group(self, name, store) for name, store in self._stores.items()}
        self._port = await self._serve(self._config.server)
        for group in self._groups.values():
            group.begin()
        facts = {"groups": len(self._groups), "sinks": len(self._sinks), "config": str(self._path)}
        _log.info("started", extra={"version": __version__, **facts})

    def _possible(self, server: ServerConfig) -> ServerConfig:
        """Whoever does not ask for a port does without where its packages are missing."""
        missing = [name for name in ("aiohttp", "prometheus_client") if importlib.util.find_spec(name) is None]
        if server.listen is None or not missing:
            return server
        if server != ServerConfig():
            raise ConfigError(f"[server] needs the package {missing[0]}", hint="pip install 'oss-tail[service]'")
        return replace(server, listen=None)

    def _make_metrics(self, server: ServerConfig) -> None:
        """What `server` is to serve, once there is a port; whoever was there before counts from then on, too."""
        if self._metrics is None and server.listen is not None:
            from tailer.metrics import ServiceMetrics

            self._metrics = self._relay.to = ServiceMetrics(self.status)
        if self._metrics is not None:
            groups = {name: one.sink for name, one in self._config.groups.items()}
            self._metrics.declare(groups, self._config.sinks, object_series=self._config.server.object_series)

    async def _until_stopped(self) -> None:
        tasks = [asyncio.create_task(one) for one in (self._reload_for_ever(), self._tick_for_ever())]
        try:
            with watching(self._path, self.reload, self._seen):
                self._notifier.ready()
                await self._stopping.wait()
        finally:
            async with self._reloading:  # one that has begun comes to its end: nothing is left in between
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick_for_ever(self) -> None:
        """Whoever started us is told that all is in motion, this loop and every group, and how it is, in words."""
        pause = min(_TICK, (self._notifier.watchdog or _TICK) / 3)
        said = ""
        while self._notifier.listens:
            if self.moves():
                self._notifier.alive()
            if (words := self._in_words()) != said:
                self._notifier.status(said := words)
            await asyncio.sleep(pause)

    def _in_words(self) -> str:
        if problem := next(self._problems(), None):
            return problem
        groups = [group.status() for group in self._groups.values()]
        objects, lag = sum(sum(one.objects.values()) for one in groups), sum(one.lag for one in groups)
        return f"{_counted(objects, 'object')} in {_counted(len(groups), 'group')}, {_counted(lag, 'byte')} behind"

    async def _end(self) -> bool:
        """Deliver and commit what is in hand; whether there was time for it."""
        self._stopping.set()
        self._notifier.stopping()
        for sink in self._sinks.values():
            sink.stop()
        drained = await self._let_go(self._groups.values())
        await _close_all(self._sinks.values())
        for store in self._stores.values():
            store.close()
        if self._port is not None:
            await self._port.close()
        if self._client is not None:
            await self._client.aclose()
        return drained

    async def _let_go(self, groups: Iterable[_Group]) -> bool:
        """End `groups`, all at the same time; whether each had the time for what it had in hand."""
        return all(await asyncio.gather(*(group.end(self._time_left(), self._in_a_hurry) for group in groups)))

    def _time_left(self) -> float:
        """Seconds for what is in hand. Of those, a reload that we were told to end in may have taken a part."""
        spent = 0.0 if self._told_at is None else time.monotonic() - self._told_at
        return max(0.0, self._config.drain - spent)

    # --- its parts

    def _connected(self, config: ServiceConfig) -> Client:
        return connect(service_settings(config), on_request=self.observer.on_request)

    def _opened(self, config: SinkConfig) -> SinkOutlet:
        outlet = open_outlet(config, self.observer)
        outlet.on_end = self._nobody_reads
        return outlet

    def _nobody_reads(self, error: OutputClosed) -> None:
        self._ended_by = error
        self._stopping.set()

    def _own(self, config: ServiceConfig, names: Iterable[str]) -> dict[str, Checkpoints]:
        """The checkpoints of the groups called `names`. Raises CheckpointError where one has another owner."""
        with contextlib.ExitStack() as undo:
            stores = {
                name: undo.enter_context(Checkpoints.open(config.checkpoint, name, owner=_OWNER)) for name in names
            }
            undo.pop_all()
            return stores

    async def _serve(self, server: ServerConfig) -> Port | None:
        if server.listen is None or self._open_port is None:
            return None
        return await self._open_port(self, server)

    # --- another configuration

    async def _reload_for_ever(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._notifier.reloading()
            async with self._reloading:
                await self._reload()
            self._notifier.ready()
            await asyncio.sleep(_BETWEEN_RELOADS)

    async def _reload(self) -> None:
        try:
            config = load_config(self._path)
            config = replace(config, server=self._possible(config.server))
            if changed := config != self._config:
                await self._change_to(config)
        except TailerError as error:
            self._config_error = str(error)
            _log.error("the configuration was not taken over: all goes on as before", extra=logs.of_error(error))
            for name in self._groups:
                self.observer.on_error(name, "config", error)
        except Exception as error:
            self._config_error = f"a mistake of ours: {type(error).__name__}: {error}"
            _log.error("the configuration was taken over in part at most, by a mistake of ours", exc_info=error)
        else:
            words = "the configuration was read again" + ("" if changed else ", nothing changed")
            _log.info(words, extra={"groups": len(self._groups), "changed": changed})
            self._config_error = None

    async def _change_to(self, config: ServiceConfig) -> None:
        """Take over what differs. What can go wrong goes wrong before anything is touched. Raises TailerError."""
        old = self._config
        if config.checkpoint != old.checkpoint:
            raise ConfigError("checkpoint: another file needs a restart")
        async with contextlib.AsyncExitStack() as undo:
            client = self._client
            if config.oss != old.oss:
                client = await undo.enter_async_context(self._connected(config))
            sinks = {name: self._sinks[name] for name, one in config.sinks.items() if one == old.sinks.get(name)}
            for name in config.sinks.keys() - sinks.keys():
                sinks[name] = self._opened(config.sinks[name])
                undo.push_async_callback(sinks[name].close)
            stores = self._own(config, config.groups.keys() - self._groups.keys())
            for store in stores.values():
                undo.enter_context(store)
            self._make_metrics(config.server)
            await self._move_port(config.server)
            undo.pop_all()
        await self._take_over(config, client, sinks, stores)

    async def _move_port(self, server: ServerConfig) -> None:
        """Another address is had before the one there is, is let go. Raises ConfigError."""
        former = self._config.server
        if (server.listen, server.hints) == (former.listen, former.hints):
            return
        if server.listen == former.listen and self._port is not None:
            await self._port.close()
            self._port = None
        port, self._port = self._port, await self._serve(server)
        if port is not None:
            await port.close()

    async def _take_over(
        self, config: ServiceConfig, client: Client | None, sinks: dict[str, SinkOutlet], stores: dict[str, Checkpoints]
    ) -> None:
        """Groups whose sink or service is another one begin anew, where they are; the others are not disturbed."""
        former_client, former_sinks = self._client, self._sinks
        gone = [sink for name, sink in former_sinks.items() if sinks.get(name) is not sink]
        for sink in gone:
            sink.stop()
        kept = {name: group for name, group in self._groups.items() if name in config.groups}
        anew = [
            group
            for name, group in kept.items()
            if client is not former_client or not group.may_stay(config.groups[name], sinks)
        ]
        removed = [group for name, group in self._groups.items() if name not in config.groups]
        await self._let_go([*anew, *removed])
        for group in removed:
            self._stores.pop(group.name).close()
        await _close_all(gone)
        if former_client is not None and client is not former_client:
            await former_client.aclose()
        self._config, self._client, self._sinks = config, client, sinks
        self._stores.update(stores)
        logs.set_up(config.log_format, config.log_level)
        self._make_metrics(config.server)
        self._governor.apply(config.limits)
        begun = [_Group(self, name, store) for name, store in stores.items()]
        self._groups = {group.name: group for group in [*kept.values(), *begun]}
        for group in self._groups.values():
            if group in anew:
                group.make()
            if group in anew or group in begun:
                group.begin()
        stay = [group for group in kept.values() if group not in anew]
        await _unless(self._stopping, asyncio.gather(*(group.apply() for group in stay)))

    # --- what a group asks of it

    @property
    def observer(self) -> Observer:
        """Who counts what happens."""
        return cast("Observer", self._relay)

    def config_of(self, group: str) -> GroupConfig:
        """As the file has it now."""
        return self._config.groups[group]

    def buffer_bytes(self) -> int:
        """What one group may hold in memory: all have the same share."""
        return self._config.buffer_bytes // max(1, len(self._config.groups))

    def fleet(self, group: GroupConfig, store: Checkpoints) -> Fleet:
        """Whoever follows `group`, not begun yet. Raises ConfigError."""
        assert self._client is not None  # what begins a group comes behind it
        outlet = self._sinks[group.sink].of_group(group)
        reader = self._governor.reader(_Bounded(self._client, self._requests), group.name)
        return Fleet(group, reader, store, outlet, self.observer, buffer_bytes=self.buffer_bytes())

    def sink(self, name: str) -> SinkOutlet:
        """Of the configuration as it is now."""
        return self._sinks[name]

    # --- as the port serves it

    def moves(self) -> bool:
        """Did every group give a sign of life just now? Where one did not, nothing but a new process helps."""
        return all(group.moves() for group in self._groups.values())

    def status(self) -> ServiceStatus:
        """How all of it is."""
        groups = tuple(group.status() for group in self._groups.values())
        unready = [f"group {one.name}: not listed yet" for one in groups if one.listed_at is None]
        if self._stopping.is_set():
            unready.append("stopping")
        bad = [*self._problems()]
        return ServiceStatus(
            version=__version__,
            started_at=self._started_at,
            now=time.time(),
            ready=not unready,
            healthy=not bad,
            problems=(*bad, *unready, *filter(None, [self._governor.problem()])),
            groups=groups,
            objects=self._objects(),
            sinks=tuple(sink.status() for sink in self._sinks.values()),
            requests=self._governor.status(),
            config_error=self._config_error,
            buffer_limit=self._config.buffer_bytes,
        )

    def _problems(self) -> Iterator[str]:
        for group in self._groups.values():
            yield from group.problems(self._config.stuck)
        for sink in self._sinks.values():
            if (problem := sink.problem()) is not None:
                yield problem

    def _objects(self) -> tuple[ObjectStatus, ...]:
        """Of all groups: those with the most lag, then those that grew last. Each group has its own in that order."""
        most = max(_MOST_OBJECTS, self._config.server.object_series)
        found = [(-one.lag, place, one) for group in self._groups.values() for place, one in group.objects(most)]
        return tuple(one for *_, one in sorted(found, key=lambda it: it[:2])[:most])

    def metrics_text(self) -> str:
        """All metrics. Raises ConfigError where none are kept, because there is no port."""
        if self._metrics is None:
            raise ConfigError("there are no metrics without a port")
        return self._metrics.text()

    def hint(self, ref: ObjectRef) -> bool:
        """Somebody says that `ref` changed. Whether it is followed."""
        known = sum(group.fleet.wake(ref) for group in self._groups.values()) > 0  # each is to be told
        self.observer.on_hint(known)
        return known


class _Group:
    """One group under way: a fleet that is built anew, after a while, when it fails."""

    def __init__(self, service: Service, name: str, store: Checkpoints) -> None:
        """Raises ConfigError."""
        self.name = name
        self.store = store
        self._service = service
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.make()

    def make(self) -> None:
        """A fleet as the configuration is now, in place of one that has ended. Raises ConfigError."""
        self._is_ending = False
        self.config = self._service.config_of(self.name)
        self.sink = self._service.sink(self.config.sink)
        self.fleet = self._service.fleet(self.config, self.store)

    def begin(self) -> None:
        """Follow, in a task."""
        self._task = asyncio.create_task(self._run(), name=f"group {self.name}")

    async def _run(self) -> None:
        attempt = 0
        while True:
            started = time.monotonic()
            try:
                return await self.fleet.run()
            except Exception as error:
                attempt = attempt + 1 if time.monotonic() - started < _LONG_AGO else 1
                self._tell(error)
            await asyncio.sleep(back_off(attempt, random.random()))
            self._trouble = None
            self.make()

    def _tell(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, TailerError):
            _log.error("the group failed, and begins anew", extra={"group": self.name, **logs.of_error(error)})
            self._trouble = f"group {self.name}: {error}"
        else:
            _log.error("the group failed by a mistake of ours", extra={"group": self.name}, exc_info=error)
            self._trouble = f"group {self.name}: {type(error).__name__}: {error}"

    async def end(self, seconds: float, hurry: asyncio.Event) -> bool:
        """Deliver and commit what is in hand, in so many seconds; whether that was enough."""
        if self._task is None:
            return True
        self._is_ending = True
        draining = asyncio.create_task(self.fleet.drain(seconds))
        hurrying = asyncio.create_task(hurry.wait())
        await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        draining.cancel()  # nothing, to one that is done
        left: list[str] = []
        try:
            if count := await draining:
                left.append(f"{count} objects were being delivered")
        except asyncio.CancelledError:
            left.append("it was told to end at once")
        except TailerError as error:
            left.append(str(error))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for line in left:
            _log.warning("the group ended too early: %s; nothing is lost", line, extra={"group": self.name})
        return not left

    def may_stay(self, config: GroupConfig, sinks: Mapping[str, SinkOutlet]) -> bool:
        """Can `config` be taken over as it goes, with these sinks?"""
        return sinks[config.sink] is self.sink and config.integrity is self.config.integrity

    async def apply(self) -> None:
        """Go on as the configuration is now, undisturbed where it is the same."""
        config, before = self._service.config_of(self.name), self.config
        self.fleet.limit_buffer(self._service.buffer_bytes())
        self.config = config
        if config == before:
            return
        try:
            await self.fleet.apply(config)
        except TailerError as error:
            self.config = before
            self._tell(error)
        else:
            self._trouble = None

    def moves(self) -> bool:
        """Did it give a sign of life just now? One that failed and waits, or drains, is looked after by us."""
        return self._is_ending or self._trouble is not None or time.monotonic() - self.fleet.beat < _STANDSTILL

    def status(self) -> GroupStatus:
        """How the group is."""
        return self.fleet.status()

    def objects(self, most: int) -> Iterator[tuple[int, ObjectStatus]]:
        """Those that matter most, first."""
        return enumerate(self.fleet.objects(most))

    def problems(self, stuck: float) -> Iterator[str]:
        """Why it is not healthy, a line each."""
        if self._trouble is not None:
            yield self._trouble
        elif not self.moves():
            yield f"group {self.name}: stands still since {time.monotonic() - self.fleet.beat:.0f} s"
        yield from self.fleet.problems(stuck)


class _Bounded:
    """The client, of which so many requests are under way at a time as there are `slots`."""

    def __init__(self, client: Client, slots: asyncio.Semaphore) -> None:
        self._client = client
        self._slots = slots

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        async with self._slots:
            return await self._client.head(ref)

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        async with self._slots:
            return await self._client.fetch(ref, range)

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        async with self._slots:
            return await self._client.list_objects(
                bucket, prefix, delimiter=delimiter, continuation_token=continuation_token
            )


class _Relay:
    """An `Observer` that passes on what it is told, to whoever it is that counts by then."""

    to: Observer | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None if self.to is None else getattr(self.to, name)(*arguments)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


async def _unless(event: asyncio.Event, work: asyncio.Future[Any]) -> None:
    """Wait for `work`, which is cancelled when the event comes before its end."""
    coming = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([coming, work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        coming.cancel()
        if not work.done():
            work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _close_all(sinks: Iterable[SinkOutlet]) -> None:
    """One that cannot finish does not keep the others from it."""
    for sink in sinks:
        try:
            await sink.close()
        except SinkError as error:
            _log.error("the sink was not closed well", extra={"sink": sink.name, **logs.of_error(error)})
