"""Real brokers without Docker, for the demo, the tests and developers.

```python
with Brokers.start(["nats", "rabbitmq", "kafka"]) as brokers:
    brokers.nats.url             # "nats://127.0.0.1:…", Broker.state says real, given or missing
    brokers.rabbitmq.management_url
    brokers.restart("kafka")     # orderly; hard=True is a crash
    print(brokers.closing_line())
```
"""

from hopwatch_demo.brokers.manager import NAMES, Brokers
from hopwatch_demo.brokers.model import Broker, BrokerMissing, State

__all__ = ["NAMES", "Broker", "BrokerMissing", "Brokers", "State"]
