"""The lots of the test at rate: where messages are sent, and what receivers do with them."""

from collections.abc import Mapping
from typing import Final

NOWHERE: Final = "nowhere"
"""The route that leads to nobody."""
KEPT: Final = "kept"
"""The route that leads to the shelf too, which nobody reads."""
PLAIN: Final = "plain"
ROUTES: Final = {KEPT: 0.08, NOWHERE: 0.02}
"""The shares of routes on RabbitMQ and NATS; all else takes the plain one."""

FATES: Final[Mapping[str, Mapping[str, float]]] = {
    "kafka billing": {"fail": 0.02},
    "rabbitmq billing": {"reject": 0.02, "hold": 0.01},
    "rabbitmq stock": {"fail": 0.01, "again": 0.03},
    "nats billing": {"term": 0.02, "hold": 0.01},
    "nats stock": {"fail": 0.01, "again": 0.03},
}
"""The shares of what else than `ack` receivers do."""

HELD_AT_MOST: Final = 60
"""Messages that a receiver keeps unsettled; fewer than it is given at once."""
