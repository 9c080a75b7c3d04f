"""What the team declares: who is to get which messages, and within what time."""

from hopwatch_collector.expects.declared import Declared, declare, load
from hopwatch_collector.expects.reread import reread

__all__ = ["Declared", "declare", "load", "reread"]
