"""Walks through the console in Chromium, as a person would, and fails where it is not as it should be.

    browser.py WALK URL PICTURES [KEY=VALUE...]

What is said on standard output ("> word") tells whoever has started the walk how far it has come. Pictures
go into the directory PICTURES.
"""

import json
import re
import statistics
import sys
import urllib.request
from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

BROWSER = "/usr/bin/chromium"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
SECOND = 1_000
PATIENCE = 30 * SECOND

# Texts whose contrast to what they stand on is below 4.5 (3 for large ones), by WCAG's formula.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const faults = [];
  let looked = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    const box = element.getBoundingClientRect();
    if (!own || box.width < 2 || box.height < 2 || element.matches(':disabled, option, noscript, .unseen')) continue;
    if (!element.checkVisibility()) continue;
    looked += 1;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [a, b] = [light(over(rgba(style.color), below)), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) faults.push(`${element.tagName} "${element.textContent.slice(0, 30)}" ${ratio.toFixed(2)}`);
  }
  return {faults, looked};
}"""

# Elements that can be reached and have no name.
NAMELESS = """() => [...document.querySelectorAll('a, button, select, input, summary, [tabindex="0"]')]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim()))
  .map((one) => one.outerHTML.slice(0, 80))"""


class Page:
    """A page of the console, with everything that went wrong on it."""

    def __init__(self, context, url, allowed=()):
        self.page, self.url = context.new_page(), url
        self.faults, self.bytes, self.requests = [], 0, 0
        self.page.on("console", lambda message: self.said(message, allowed))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self.asked)
        self.page.on("response", self.answered)

    def said(self, message, allowed):
        if message.type in ("error", "warning") and not any(one in message.text for one in allowed):
            self.faults.append(f"console {message.type}: {message.text}")

    def asked(self, request):
        if not request.url.startswith(self.url):
            self.faults.append(f"asks another site: {request.url}")

    def answered(self, response):
        if "/v1/" not in response.url and response.request.method == "GET":
            self.requests += 1
            self.bytes += int(response.headers.get("content-length", 0))

    def go(self, place=""):
        self.page.goto(f"{self.url}/{place}")
        self.page.wait_for_selector(".overview")

    def check(self, picture=None, directory=None):
        assert not self.faults, self.faults
        found = self.page.evaluate(CONTRAST)
        assert found["looked"] > 10, found
        assert not found["faults"], f"contrast too low: {found['faults']}"
        assert not (nameless := self.page.evaluate(NAMELESS)), nameless
        wider = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"the page is {wider} px wider than the window"
        if picture:
            self.page.screenshot(path=f"{directory}/{picture}.png", full_page=True)


def get(url, path):
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        return json.load(answer)


def say(word):
    print(f"> {word}", flush=True)


@contextmanager
def opened(browser, url, size=WIDE, theme="light", allowed=()):
    context = browser.new_context(viewport=size, color_scheme=theme)
    context.set_default_timeout(PATIENCE)
    yield Page(context, url, allowed)
    context.close()


def rates_are_known(page):
    page.wait_for_function("() => /[1-9][\\d.,]* ?k?\\/s in/.test(document.querySelector('.card .rates')?.textContent ?? '')")


def graph(browser, url, pictures):
    """What runs, how busy it is, in both themes and widths."""
    report = get(url, "/v1/job/graph")
    between = {(edge["from"], edge["to"]) for edge in report["edges"]}
    inside = {(a, b) for v in report["vertices"] for a in v["operators"] for b in v["operators"]}
    between -= inside
    grounds = set()
    for theme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)):
        with opened(browser, url, size, theme) as shown:
            page = shown.page
            shown.go()
            rates_are_known(page)
            cards = page.locator(".canvas .card" if size is WIDE else ".stack .card")
            expect(cards).to_have_count(len(report["vertices"]))
            for vertex in report["vertices"]:
                expect(cards.filter(has_text=vertex["operators"][0]).first).to_be_visible()
            expect(cards.first).to_contain_text("busy")
            expect(cards.first).to_contain_text("watermark")
            if size is WIDE:
                expect(page.locator("svg path.edge")).to_have_count(len(between))
                expect(page.locator(".label").first).to_contain_text("hash")
                expect(page.locator(".label").first).to_contain_text("customer_id")
            shown.check(f"graph-{theme}-{size['width']}", pictures)
            cards.last.click()
            rows = page.locator("section.panel tbody").first.locator("tr")
            expect(rows).to_have_count(report["vertices"][-1]["parallelism"])
            page.get_by_text("Vertices and edges as tables").click()
            expect(page.get_by_role("region", name="Edges between vertices").locator("tbody tr")).to_have_count(len(between))
            shown.check(f"vertex-{theme}-{size['width']}" if size is WIDE else None, pictures)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2, grounds
    switch(browser, url)
    quick(browser, url)


def switch(browser, url):
    """The switch wins over what the system prefers, and is remembered."""
    with opened(browser, url, theme="light") as shown:
        shown.go()
        ground = "getComputedStyle(document.body).backgroundColor"
        light = shown.page.evaluate(ground)
        shown.page.get_by_label("Theme").select_option("dark")
        dark = shown.page.evaluate(ground)
        assert light != dark, light
        shown.page.reload()
        shown.page.wait_for_selector(".overview")
        assert shown.page.evaluate(ground) == dark
        shown.check()


def quick(browser, url):
    """Little to load, in few requests. How soon it is loaded is for a machine that does nothing else."""
    times = []
    for _ in range(5):
        with opened(browser, url) as shown:
            shown.go()
            times.append(shown.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            assert 10_000 < shown.bytes < 300_000, shown.bytes
            assert shown.requests <= 30, shown.requests
            assert not shown.faults, shown.faults
    print(f"loaded in {statistics.median(times):.0f} ms (of {[round(one) for one in times]}), {shown.bytes} bytes in {shown.requests} files")


def checkpoints(browser, url, pictures):
    """Their history, how each task took part, and a savepoint by hand."""
    with opened(browser, url) as shown:
        page = shown.page
        shown.go("#/checkpoints")
        table = page.get_by_role("region", name="Checkpoints")
        expect(table.locator("tbody tr").nth(2)).to_be_visible()
        done = next(one for one in get(url, "/v1/checkpoints")["checkpoints"] if one["state"] == "Completed")
        line = table.locator("tbody tr").filter(has=page.get_by_text(f"#{done['id']}", exact=True))
        expect(line).to_contain_text("Completed")
        page.get_by_role("link", name=f"#{done['id']}", exact=True).click()
        tasks = page.get_by_role("region", name=f"Tasks of checkpoint {done['id']}")
        detail = get(url, f"/v1/checkpoints/{done['id']}")
        assert len(detail["subtasks"]) == detail["tasks"], detail
        expect(tasks.locator("tbody tr")).to_have_count(detail["tasks"])
        # Tasks say of their alignment in their next report.
        expect(tasks.locator("tbody tr td:nth-child(4)").filter(has_text=re.compile("ms|s$"))).not_to_have_count(0)
        shown.check("checkpoints-light-1280", pictures)

        page.get_by_role("button", name="Take savepoint").click()
        dialog = page.get_by_role("dialog", name="Take a savepoint")
        dialog.get_by_label("Name").fill("Not Allowed")
        dialog.get_by_role("button", name="Take savepoint").click()
        expect(dialog.get_by_role("status")).to_contain_text("not allowed")
        dialog.get_by_label("Name").fill("before-upgrade")
        shown.check("savepoint-light-1280", pictures)
        dialog.get_by_role("button", name="Take savepoint").click()
        expect(dialog.get_by_role("status")).to_contain_text("Complete: ", timeout=PATIENCE)
        assert get(url, "/v1/savepoints/before-upgrade")["state"] == "Completed"
        dialog.get_by_role("button", name="Close").click()
        expect(table.locator("tbody tr").filter(has_text="Savepoint")).to_have_count(1)
        shown.check()
    for place, title in (("state", "Keys"), ("configuration", "checkpoint.interval"), ("sources", "Records read")):
        for theme, size in (("light", WIDE), ("dark", NARROW)):
            with opened(browser, url, size, theme) as shown:
                shown.go(f"#/{place}")
                expect(shown.page.get_by_text(title, exact=True).first).to_be_visible()
                shown.check(f"{place}-{theme}-{size['width']}", pictures)
    with opened(browser, url, NARROW, "dark") as shown:
        shown.go(f"#/checkpoints/{done['id']}")
        expect(shown.page.get_by_role("region", name=f"Tasks of checkpoint {done['id']}")).to_be_visible()
        shown.check("checkpoints-dark-360", pictures)


def lag(browser, url, pictures):
    """How far each partition is behind, whose open transaction holds it back, and that checkpoints are slow."""
    for theme, size in (("light", WIDE), ("dark", NARROW)):
        with opened(browser, url, size, theme) as shown:
            page = shown.page
            shown.go("#/sources")
            rows = page.get_by_role("region", name="Partitions of clicks").locator("tbody tr")
            expect(rows).to_have_count(3)
            held = rows.filter(has_text="clicks/1")
            expect(held).to_contain_text("somebody-else")
            expect(held.locator("td").nth(1)).to_have_text("51")
            expect(rows.filter(has_text="clicks/0").locator("td").first).to_have_text("0")
            expect(page.get_by_text("by open transactions")).to_be_visible()
            warning = page.locator("#notices").get_by_text("checkpoint-slow")
            expect(warning).to_be_visible()
            expect(page.locator("#notices")).to_contain_text("is 500ms, and the newest checkpoint took")
            shown.check(f"lag-{theme}-{size['width']}", pictures)


def failures(browser, url, pictures):
    """A worker has been killed: what, where, what follows, and the page of the error."""
    with opened(browser, url) as shown:
        page = shown.page
        shown.go("#/failures")
        line = page.get_by_role("region", name="Failures").locator("tbody tr").last
        # Whoever hears of it first: the coordinator, or the worker that was connected with it.
        failure = get(url, "/v1/job/failures")["failures"][-1]
        title = f"{failure['page']} {failure['failure']['code']}"
        assert title in ("MS0501 WorkerLost", "MS0511 ExchangeLost"), title
        expect(line).to_contain_text(title)
        expect(line).to_contain_text("restarted after")
        expect(page.get_by_role("navigation")).to_contain_text("Failures")
        shown.check("failures-light-1280", pictures)
        line.get_by_role("link").click()
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        for heading in ("What happened", "Why", "What to do"):
            expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        shown.check("error-light-1280", pictures)


def failed(browser, url, pictures):
    """The job has been given up."""
    with opened(browser, url, NARROW) as shown:
        page = shown.page
        shown.go()
        expect(page.locator("#state")).to_have_text("Failed")
        expect(page.locator("#notices")).to_contain_text("Failed: ")
        expect(page.get_by_role("button", name="Take savepoint")).to_be_disabled()
        shown.check("failed-light-360", pictures)
    with opened(browser, url, theme="dark") as shown:
        shown.go("#/failures")
        expect(shown.page.get_by_text("the job was given up").first).to_be_visible()
        shown.check("failed-dark-1280", pictures)


def silence(browser, url, pictures):
    """The coordinator goes away and comes back."""
    with opened(browser, url, allowed=("Failed to load resource",)) as shown:
        page = shown.page
        shown.go()
        rates_are_known(page)
        expect(page.locator("#fresh")).to_have_text("live")
        say("live")
        notice = page.locator("#notices")
        expect(notice).to_contain_text("The coordinator does not answer")
        expect(page.locator("#fresh")).to_have_text(re.compile(r"last update \d[\d.]* (s|min).* ago"))
        expect(page.get_by_role("button", name="Take savepoint")).to_be_disabled()
        expect(page.locator(".canvas .card").first).to_be_visible()
        # Dimmed: what is old may be hard to read, what is said about it may not.
        page.screenshot(path=f"{pictures}/silent-light-1280.png", full_page=True)
        say("silent")
        expect(notice).not_to_contain_text("does not answer")
        expect(page.locator("#fresh")).to_have_text("live")
        shown.check()


def keyboard(browser, url, pictures):
    """Everything can be reached and done without a mouse, in the order in which it stands."""
    with opened(browser, url) as shown:
        page = shown.page
        shown.go()
        for role in ("banner", "navigation", "main"):
            expect(page.get_by_role(role)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.evaluate("document.documentElement.lang") == "en"
        focused = lambda: page.evaluate(
            "(({tagName, id, textContent, ariaLabel}) => `${tagName} ${id || ariaLabel || textContent}`)(document.activeElement)")
        seen = []
        for _ in range(20):
            page.keyboard.press("Tab")
            if focused().startswith("BODY"):
                break
            seen.append(focused())
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"no sign of the focus on {seen[-1]}"
        wanted = ["Skip to the content", "take-savepoint", "theme", "Graph", "Checkpoints", "Failures", "Sources",
                  "State", "Configuration", "Graph of the job", "orders"]
        places = [next((at for at, one in enumerate(seen) if word in one.split(" ", 1)[1]), None) for word in wanted]
        assert None not in places and places == sorted(places), list(zip(wanted, places, seen))
        # The focus stays where it is while the page is drawn anew.
        card = page.locator(".canvas .card").first
        card.focus()
        before = page.locator(".overview dd").first.inner_text()
        expect(page.locator(".overview dd").first).not_to_have_text(before)
        expect(card).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Subtasks")).to_be_visible()
        expect(card).to_have_attribute("aria-current", "true")
        page.get_by_role("link", name="Checkpoints").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
        expect(page.get_by_role("link", name="Checkpoints")).to_have_attribute("aria-current", "page")
        page.keyboard.press("Tab")
        assert "#" in focused() or "Checkpoints" in focused(), focused()
        page.get_by_role("button", name="Take savepoint").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.blur()")
        shown.check()


def many(browser, url, pictures):
    """Many vertices with long names: nothing lies over anything else."""
    report = get(url, "/v1/job/graph")
    assert len(report["vertices"]) >= 10, len(report["vertices"])
    for size, theme in ((WIDE, "light"), (NARROW, "dark")):
        with opened(browser, url, size, theme) as shown:
            page = shown.page
            shown.go()
            rates_are_known(page)
            cards = page.locator(".canvas .card" if size is WIDE else ".stack .card")
            expect(cards).to_have_count(len(report["vertices"]))
            boxes = [card.bounding_box() for card in cards.all()]
            for index, a in enumerate(boxes):
                for b in boxes[:index]:
                    apart = (a["x"] >= b["x"] + b["width"] or b["x"] >= a["x"] + a["width"]
                             or a["y"] >= b["y"] + b["height"] or b["y"] >= a["y"] + a["height"])
                    assert apart, (a, b)
            higher = page.evaluate("""() => [...document.querySelectorAll('.card')].filter((card) => card.checkVisibility()
              && card.scrollHeight > card.clientHeight + 1).map((card) => card.textContent)""")
            assert not higher, f"does not fit into its card: {higher}"
            shown.check(f"many-{theme}-{size['width']}", pictures)


def main():
    walk, url, pictures = sys.argv[1:4]
    walks = {one.__name__: one for one in (graph, checkpoints, lag, failures, failed, silence, keyboard, many)}
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        walks[walk](browser, url, pictures)
        browser.close()
    say("done")


main()
