"""What a person does on the page."""

from playwright.sync_api import Locator, Page, expect

from tests.web.running import Locust


def field(page: Page, name: str) -> Locator:
    return page.locator(f"form [name={name}]")


def fill(page: Page, **values: str) -> None:
    expect(page.locator("form")).not_to_have_attribute("inert", "")  # nobody can type until it holds what was chosen
    for name, value in values.items():
        if name in ("scenario", "arrivals"):
            field(page, name).select_option(value)
        else:
            field(page, name).fill(value)


def opened(page: Page, locust: Locust) -> Page:
    page.goto(locust.url)
    return page


def start_page(page: Page, locust: Locust) -> Page:
    """With its form as our script has laid it out."""
    expect(opened(page, locust).locator(".llm-scenario")).to_be_visible()
    return page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def phase(page: Page, words: str, seconds: float = 60) -> None:
    expect(page.locator(".llm-phase")).to_contain_text(words, timeout=seconds * 1000)
