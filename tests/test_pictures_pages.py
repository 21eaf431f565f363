"""The pages, opened from disk in a real browser."""

import itertools
import json
import shutil

import pytest
from conftest import darts
from made_runs import EPOCHS, record_repeats, record_search, record_sweep, record_training

from darts_cli.genotype import load
from darts_cli.pictures import colours
from darts_cli.pictures.cells.figure import described
from darts_cli.pictures.pages import comparison
from darts_cli.runs.history import read
from darts_cli.sweeps.significance import summary


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver (Debian: chromium, chromium-driver) are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-sync".split():
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=webdriver.ChromeService(driver), options=options)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    record_search("cnn", folder)
    return folder


def opened(browser, *subjects, width=1400, height=1000, **media):
    """The page of these subjects in a window of that size, with these media features, such as prefers_color_scheme="dark"."""
    path = subjects[0].with_suffix(".html")
    result = darts("visualize", *subjects, "--html", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.stderr
    show(browser, path, width, height, **media)


def show(browser, path, width=1400, height=1000, **media):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")
    browser.get(path.as_uri())


# All text that is seen, in boxes, each cut to the region that scrolls it; and the slider.
BOXES = """
window.scrollTo(0, 0);  // the bar stays at the top of the window, over what is scrolled
const boxes = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, parent = node.parentElement;
  if (!node.textContent.trim() || parent.closest("script, title, g[style*='opacity: 0'], g[style*='opacity:0']")) continue;
  if (!parent.checkVisibility()) continue;
  const text = parent.closest("svg text"), range = document.createRange();
  range.selectNodeContents(node);
  const rects = text ? [text.getBoundingClientRect()] : [...range.getClientRects()];
  const clip = parent.closest(".scroll")?.getBoundingClientRect();
  for (const r of rects) {
    const left = Math.max(r.left, clip ? clip.left : 0), right = Math.min(r.right, clip ? clip.right : Infinity);
    const top = Math.max(r.top, clip ? clip.top : 0), bottom = Math.min(r.bottom, clip ? clip.bottom : Infinity);
    const name = (text || node).textContent.trim();
    if (right - left > 1 && bottom - top > 1) boxes.push({name, left, right, top, bottom, text});
  }
}
for (const input of document.querySelectorAll("input")) {
  const {left, right, top, bottom} = input.getBoundingClientRect();
  boxes.push({name: "slider", left, right, top, bottom});
}
const found = [];
boxes.forEach((a, i) => boxes.slice(0, i).forEach((b) => {
  const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (wide > 1 && high > 1 && !(a.text && a.text === b.text)) found.push([a.name, b.name]);
}));
return [found, boxes.length, document.documentElement.scrollWidth - window.innerWidth];
"""
WINDOWS = [(1400, 1000), (800, 600), (390, 800)]


def check_layout(browser, least):
    """Nothing overlaps, nothing but regions that scroll is wider than the window, and the console is empty."""
    overlapping, count, beyond = browser.execute_script(BOXES)
    assert overlapping == []
    assert count > least
    assert beyond <= 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WINDOWS)
def test_nothing_overlaps_on_the_page_of_a_search(browser, run, width, height, scheme):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, run, width=width, height=height, prefers_color_scheme=scheme)
    check_layout(browser, 300)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    browser.find_element(By.ID, "slider").send_keys(Keys.HOME)
    assert shown_epoch(browser) == f"epoch 1 of {EPOCHS}"
    browser.find_element(By.TAG_NAME, "summary").click()  # the table of all numbers
    check_layout(browser, 300)


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_the_page_of_a_training(browser, width, scheme, tmp_path):
    record_training("cnn", tmp_path / "run")
    opened(browser, tmp_path / "run", width=width, prefers_color_scheme=scheme)
    check_layout(browser, 50)
    text = browser.execute_script("return document.body.innerText")
    assert [title for title in ("loss (nats)", "accuracy (%)") if title in text] == ["loss (nats)", "accuracy (%)"]
    assert "darts train cnn --genotype" in text
    labels = browser.execute_script('return [...document.querySelectorAll(".edge text")].map((text) => text.textContent)')
    edges = [edge.op for cell in load("cnn/darts_v2").cells.values() for node in cell.nodes for edge in node]
    assert sorted(labels) == sorted(edges)


@pytest.mark.parametrize(("domain", "width", "scheme"), [("cnn", 1400, "light"), ("rnn", 390, "dark")])
def test_the_page_of_a_sweep(browser, domain, width, scheme, tmp_path):
    """Every candidate with its score; the operations of random cells in grey."""
    content = record_sweep(domain, tmp_path / "sweep")
    opened(browser, tmp_path / "sweep", width=width, prefers_color_scheme=scheme)
    check_layout(browser, 50)
    headings = browser.execute_script('return [...document.querySelectorAll("article h3")].map((h) => h.textContent)')
    form = {"cnn": "{:.2%}", "rnn": "{:.2f}"}[domain]
    winner, *others = [*content["candidates"], *content["random_cells"]]
    assert headings[0] == f"seed-0, the winner: {form.format(winner['score'])}"
    assert headings[1:] == [f"{each['name']}: {form.format(each['score'])}" for each in others]
    fills = """return [...document.querySelectorAll("article")].map((article) =>
      [...new Set([...article.querySelectorAll(".edge rect")].map((rect) => getComputedStyle(rect).fill))])"""
    shown = browser.execute_script(fills)
    grey = rgb(colours.GREY if scheme == "light" else colours.at_night(colours.GREY))
    assert [colour == [grey] for colour in shown] == [False] * 3 + [True] * 2
    assert "A remark <of> the sweep." in browser.execute_script("return document.body.innerText")


@pytest.mark.parametrize(("domain", "width", "scheme"), [("cnn", 1400, "light"), ("rnn", 390, "dark")])
def test_the_page_of_repeated_trainings(browser, domain, width, scheme, tmp_path):
    """Every training that has finished, their mean and deviation; the one that has not is named."""
    record_repeats(domain, tmp_path / "repeats")
    opened(browser, tmp_path / "repeats", width=width, prefers_color_scheme=scheme)
    check_layout(browser, 50)
    part, measure, values = {
        "cnn": ("test", "accuracy", ["90.0%", "85.0%", "80.0%", "85.0% ± 5.0%"]),  # 1 - (1/5 + offset) / 2
        "rnn": ("validation, last epoch", "perplexity", ["18.00", "27.00", "36.00", "27.00 ± 9.00"]),
    }[domain]
    rows = browser.execute_script("""return [...document.querySelector("table").rows].map((row) =>
      [...row.cells].map((cell) => cell.textContent))""")
    assert [row[0] for row in rows] == ["training", "mean ± deviation", "seed-0", "seed-1", "seed-2"]
    column = rows[0].index(f"{part}: {measure}")
    assert [row[column] for row in rows[2:] + rows[1:2]] == values
    legends = browser.execute_script('return [...document.querySelectorAll("figcaption")].map((c) => c.textContent)')
    assert sum(f"mean (of 3) {values[-1]}" in legend for legend in legends) == 1
    assert len(browser.execute_script('return document.querySelectorAll("path.band")')) == len(legends) == 4
    text = browser.execute_script("return document.body.innerText")
    assert "Failed or not finished, and not shown: seed-3." in text
    assert "darts train cnn --repeats 4" in text


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_the_page_of_a_comparison(browser, width, scheme, tmp_path):
    scores = {"darts": [93.1, 93.4, 92.8], "random": [91.0, 92.5, 93.0]}
    methods = {name: {"scores": values, **summary(values), "curve": values} for name, values in scores.items()}
    row = {
        "method": "darts",
        "to": "random",
        "mean": 0.9,
        "interval": [-1, 2.8],
        "p": 0.25,
        "p_holm": 0.25,
        "conclusion": "none",
    }
    space = {"measure": "true accuracy", "conclusion": "None.", "methods": methods, "differences": [row], "best": 94.37}
    content = {"dataset": "cifar10", "seeds": [2, 3, 4], "spaces": {"nas-bench-201": space}}
    (tmp_path / "page.html").write_text(comparison.page(content, "darts compare cnn"))
    show(browser, tmp_path / "page.html", width=width, prefers_color_scheme=scheme)
    check_layout(browser, 25)


def test_operations_are_painted_in_the_colours_of_the_page(browser, run):
    """By night too, where sep_conv_3x3 and sep_conv_5x5 must not be one blue."""
    script = """return [...document.querySelectorAll(".edge")].filter((edge) => edge.style.opacity !== "0").map((edge) =>
      [edge.querySelector("text").textContent, getComputedStyle(edge.querySelector("rect")).fill,
       getComputedStyle(edge.querySelector("path")).stroke, getComputedStyle(edge.querySelector("text")).fill])"""
    for scheme, shown in (("light", lambda colour: colour), ("dark", colours.at_night)):
        opened(browser, run, prefers_color_scheme=scheme)
        edges = browser.execute_script(script)
        assert len(edges) == 16
        for op, box, line, text in edges:
            colour = shown(colours.operation(op))
            assert (box, line, text) == (rgb(colour), rgb(colour), rgb(colours.on(colour)))


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def test_a_screen_reader_is_told_what_is_seen(browser, run):
    """Every picture has words, those of the cells follow the slider, and the keys reach everything that scrolls."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, run, prefers_reduced_motion="reduce")
    genotypes = read(run).genotypes()
    assert all(browser.execute_script('return [...document.querySelectorAll("svg[role=img]")].map((s) => s.ariaLabel)'))
    assert all(browser.execute_script('return [...document.querySelectorAll("[role=region]")].map((s) => s.ariaLabel)'))
    headings = browser.execute_script(
        'return [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => Number(h.tagName[1]))'
    )
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    reached = []
    for _ in range(5):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.execute_script("return document.activeElement.id || document.activeElement.ariaLabel"))
    assert reached[:4] == ["play", "slider", "Drawing of the normal cell", "Drawing of the reduce cell"]
    browser.find_element(By.ID, "slider").send_keys(Keys.HOME)
    label = browser.execute_script('return document.querySelector(".cells svg").ariaLabel')
    assert label == f"normal cell: {described(genotypes[0].cells['normal'], 'darts')}"
    assert browser.find_element(By.ID, "slider").get_attribute("aria-valuetext").startswith(f"epoch 1 of {EPOCHS}, skip")
    moving = 'return [...document.querySelectorAll(".edge, .op i")].map((e) => getComputedStyle(e).transitionDuration)'
    assert set(browser.execute_script(moving)) == {"0s"}


def test_where_all_operations_weigh_the_same_is_marked(browser, run):
    opened(browser, run)
    weights = [record["operation_weights"] for record in read(run).records]
    largest = max(weight for tables in weights for table in tables.values() for row in table for weight in row)
    places = browser.execute_script('return [...document.querySelectorAll(".op b")].map((mark) => parseFloat(mark.style.left))')
    assert places == pytest.approx([100 / 8 / largest] * (2 * 14 * 8), abs=0.1)
    text = browser.execute_script("return document.body.innerText")
    assert "The dashed line is where all operations weigh the same: 12.5 %." in text
    assert "The operation none is never taken" in text
    assert "all operations weigh the same" in browser.execute_script(
        "return document.querySelectorAll('figure')[2].textContent"
    )


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_fifty_epochs_are_less_than_a_megabyte(domain, tmp_path):
    record_search(domain, tmp_path / "run", epochs=50)
    assert darts("visualize", tmp_path / "run", "--html", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").stat().st_size < 10**6


def seen(browser, cell):
    """The edges that can be seen in a cell's picture: {id: operation}."""
    script = """
      return Object.fromEntries([...document.querySelectorAll(".cells g.edge")]
        .filter((edge) => edge.style.opacity !== "0" && edge.querySelector("text"))
        .map((edge) => [edge.id, edge.querySelector("text").textContent]))"""
    return {key: op for key, op in browser.execute_script(script).items() if key.startswith(cell)}


def expected(genotype, cell):
    first = {"cnn": 2, "rnn": 1}[genotype.domain]
    nodes = enumerate(genotype.cells[cell].nodes, first)
    return {f"{cell}-{edge.input}-{i}": edge.op for i, node in nodes for edge in node}


def shown_epoch(browser):
    from selenium.webdriver.common.by import By

    return browser.find_element(By.ID, "epoch").text


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_the_slider_moves_the_cells(browser, domain, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    record_search(domain, tmp_path / "run")
    result = darts("visualize", tmp_path / "run", "--html", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'page.html'}\n"), result.stderr
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get((tmp_path / "page.html").as_uri())
    history = read(tmp_path / "run")
    genotypes = history.genotypes()
    assert shown_epoch(browser) == f"epoch {EPOCHS} of {EPOCHS}"
    slider = browser.find_element(By.ID, "slider")
    slider.send_keys(Keys.HOME)
    for epoch in range(1, EPOCHS + 1):
        assert shown_epoch(browser) == f"epoch {epoch} of {EPOCHS}"
        for cell in genotypes[0].cells:
            assert seen(browser, cell) == expected(genotypes[epoch - 1], cell)
        slider.send_keys(Keys.ARROW_RIGHT)
    widths = browser.execute_script(
        'return [...document.querySelectorAll(".op .track i")].map((bar) => parseFloat(bar.style.width))'
    )
    tables = [record["operation_weights"] for record in history.records]
    weights = [weight for cell in genotypes[0].cells for row in tables[-1][cell] for weight in row]
    largest = max(weight for each in tables for rows in each.values() for row in rows for weight in row)
    assert widths == pytest.approx([100 * weight / largest for weight in weights], abs=0.1)
    assert browser.get_log("browser") == []
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in requests if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]


def test_the_page_is_worked_by_keys_and_tells_the_run(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    record_search("cnn", tmp_path / "run")
    assert darts("visualize", tmp_path / "run", "--html", tmp_path / "page.html").exit_code == 0
    history = read(tmp_path / "run")
    browser.get((tmp_path / "page.html").as_uri())
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_LEFT)
    assert shown_epoch(browser) == f"epoch {EPOCHS - 1} of {EPOCHS}"
    body.send_keys(Keys.HOME)
    assert shown_epoch(browser) == f"epoch 1 of {EPOCHS}"
    text = browser.find_element(By.TAG_NAME, "body").text
    first = history.records[0]
    assert f"training {first['train_loss']:.3f}" in text
    assert f"validation {first['valid_accuracy']:.1%}" in text
    skips = [history.genotypes()[0].cells[cell].count("skip_connect") for cell in ("normal", "reduce")]
    assert f"skip connections: {skips[0]} in normal, {skips[1]} in reduce" in text
    assert f"darts search cnn --dataset digits --epochs {EPOCHS}\n" in text
    assert "alpha_betas\n0.5 0.999" in text
    browser.find_element(By.ID, "slider").send_keys(Keys.SPACE)  # also where the slider has the focus
    deadline = 100
    while shown_epoch(browser) != f"epoch {EPOCHS} of {EPOCHS}" and deadline:
        deadline -= 1
        browser.execute_async_script("setTimeout(arguments[0], 100)")
    assert shown_epoch(browser) == f"epoch {EPOCHS} of {EPOCHS}"


def test_nothing_of_a_run_can_leave_the_page(browser, tmp_path):
    """Text from a run folder is shown, not obeyed."""
    evil = "</script><script>document.title='pwned'</script><img src=http://localhost:9/x>$&"
    record_search("cnn", tmp_path / "run", data=evil)
    assert darts("visualize", tmp_path / "run", "--html", tmp_path / "page.html").exit_code == 0
    browser.get((tmp_path / "page.html").as_uri())
    assert browser.title == "darts search cnn on digits"
    assert "pwned" in browser.execute_script("return document.body.innerText")
    assert browser.execute_script("return document.images.length") == 0


def test_a_page_of_one_epoch(browser, tmp_path):
    record_search("rnn", tmp_path / "run", epochs=1)
    assert darts("visualize", tmp_path / "run", "--html", tmp_path / "page.html").exit_code == 0
    browser.get_log("browser")
    browser.get((tmp_path / "page.html").as_uri())
    assert shown_epoch(browser) == "epoch 1 of 1"
    assert browser.get_log("browser") == []
