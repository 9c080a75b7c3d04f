"""`python -m hopwatch_demo.brokers [nats] [rabbitmq] [kafka]`: run brokers in the foreground until Ctrl-C."""

import shlex
import signal
import sys

from hopwatch_demo.brokers import NAMES, Brokers


def main(names: list[str]) -> int:
    """Start them, print export lines for other terminals, wait for SIGINT or SIGTERM."""
    if unknown := sorted(set(names) - set(NAMES)):
        print(f"no such broker: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with Brokers.start(names or NAMES) as brokers:
        for name, value in brokers.environ().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# {brokers.closing_line()}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
