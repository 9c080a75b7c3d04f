"""Filtering a list of the live view, and the help, which is one too."""

from typing import Any

from live_support import running


async def test_the_filter_narrows_while_typing_and_esc_drops_it(shop: Any) -> None:
    """`/` filters as one types, Enter keeps it, a word with a minus leaves out, Esc clears."""
    async with running(shop) as live:
        await live.press("slash", *"orders/7")
        await live.misses("POST /checkout")
        await live.press("enter")
        assert "POST /orders/7" in live.cursor()
        await live.press("escape")
        await live.sees("POST /checkout", "POST /orders/2")
        await live.press("slash", *"-done", "enter")
        await live.misses("POST /orders/2")
        await live.sees("POST /checkout")


async def test_a_filter_that_nothing_passes_says_how_to_drop_it(shop: Any) -> None:
    """An empty list because of the filter says so."""
    async with running(shop) as live:
        await live.press("slash", *"zzz")
        await live.sees("No line holds “zzz”.", "Esc clears the filter.")


async def test_each_view_keeps_its_own_filter(shop: Any) -> None:
    """Switching the view does not carry the filter along, coming back finds it."""
    async with running(shop) as live:
        await live.press("slash", *"orders/7", "enter", "2")
        await live.sees("! overdue")
        await live.press("1")
        await live.misses("POST /checkout")
        await live.sees("POST /orders/7", "orders/7")


async def test_help_lists_keys_and_can_be_filtered(shop: Any) -> None:
    """`?` shows keys and verdicts, `/` works there too, the same key closes it."""
    async with running(shop) as live:
        await live.press("question_mark")
        await live.sees("Everywhere", "show only lines holding these words")
        await live.press("slash", *"dead-letter", "enter")
        await live.sees("† dead-lettered")
        await live.misses("Everywhere")
        await live.press("escape", "question_mark")
        await live.sees("● live")
