"""Serving HTTP until told to end, for gateway and orders."""

import uvicorn
from fastapi import FastAPI

from hopwatch_demo.shop.settings import host_and_port


async def serve(app: FastAPI, address: str) -> None:
    """Serve until SIGTERM or SIGINT, which uvicorn heeds itself."""
    host, port = host_and_port(address)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="on")
    await uvicorn.Server(config).serve()
