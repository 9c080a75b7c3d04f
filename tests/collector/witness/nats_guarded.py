"""A NATS server of a test's own, where the witness has a login that may be changed while everything runs."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from urllib.request import urlopen

from scenario_support import until

from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import witnesses
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.brokers.nats import Nats
from hopwatch_demo.patience import scale_wait

_LOGINS = """\
authorization {{ users = [
  {{ user: shop, password: shop }}
  {{ user: witness, password: "ri:g%t@", permissions: {{ publish: {{ deny: {publish} }}, subscribe: {{ deny: {subscribe} }} }} }}
] }}
"""


class GuardedNats(Nats):
    """NATS with two logins: `shop` may do everything, `witness` what is not denied."""

    def prepare(self) -> None:
        super().prepare()
        self._plain = (self.directory / "nats.conf").read_text()
        self.write()

    def write(
        self, *, publish: Sequence[str] = (), subscribe: Sequence[str] = (), jetstream: bool = True
    ) -> None:
        """Write the configuration that the next start or reload reads, with what the witness is denied."""
        kept = [line for line in self._plain.splitlines() if jetstream or not line.startswith("jetstream")]
        logins = _LOGINS.format(publish=json.dumps(list(publish)), subscribe=json.dumps(list(subscribe)))
        (self.directory / "nats.conf").write_text("\n".join([*kept, logins]))

    async def deny(self, *, publish: Sequence[str] = (), subscribe: Sequence[str] = ()) -> None:
        """Change what the witness is denied while the server runs."""
        before = await asyncio.to_thread(self._loaded_at)
        self.write(publish=publish, subscribe=subscribe)
        os.kill(int((self.directory / "nats.pid").read_text()), signal.SIGHUP)
        await until(lambda: self._loaded_at() != before, "the server to read its configuration again")

    def _loaded_at(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.http}/varz", timeout=scale_wait(20)) as answer:
            return str(json.load(answer)["config_load_time"])

    @property
    def url(self) -> str:
        """For services."""
        return f"nats://shop:shop@127.0.0.1:{self.port}"

    def witness(self) -> NatsWitness:
        """A witness with its own login."""
        return self.witness_with(f"http://127.0.0.1:{self.http}")

    def witness_with(self, monitoring: str | None) -> NatsWitness:
        """The same, with another monitoring endpoint or none."""
        address = f"nats://witness:ri%3Ag%25t%40@127.0.0.1:{self.port}"
        [watched] = witnesses(Settings(watch_nats=address, watch_nats_monitoring=monitoring or ()))
        assert isinstance(watched.witness, NatsWitness)
        return watched.witness
