"""An order as it travels over HTTP."""

from pydantic import BaseModel


class Order(BaseModel):
    """An order on its way; `event` is the ground truth's id of the call that carries it."""

    event: str
    number: int
    order: str
    cents: int
