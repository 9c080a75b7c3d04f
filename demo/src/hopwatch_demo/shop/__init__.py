"""A small shop: real services in processes of their own, each `python -m hopwatch_demo.shop.<name>`."""
