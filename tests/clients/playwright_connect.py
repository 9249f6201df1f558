"""Playwright for Python against a shared Chromium, as a user would write it.

usage: python playwright_connect.py CDP_URL sign-in|look SITE_URL
prints one JSON object: { client, browser, contexts, who, theme }
"""

import json
import sys

from playwright.sync_api import sync_playwright


def main() -> None:
    cdp_url, action, site_url = sys.argv[1:4]
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(cdp_url, timeout=60_000)
        page = browser.contexts[0].new_page()
        page.set_default_timeout(45_000)

        if action == "sign-in":
            page.goto(f"{site_url}/login")
            page.fill("input[name=user]", "ada")
            page.select_option("select[name=theme]", "dark")
            page.click("button[type=submit]")
            page.wait_for_url("**/home")
        elif action == "look":
            page.goto(f"{site_url}/home")
        else:
            raise SystemExit(f"unknown action: {action}")

        seen = {
            "client": "playwright (python)",
            "browser": browser.version,
            "contexts": len(browser.contexts),
            "who": page.text_content("#who"),
            "theme": page.text_content("#theme"),
        }
        page.close()
        browser.close()  # of a connection over CDP: disconnects, the browser stays
        print(json.dumps(seen))


main()
