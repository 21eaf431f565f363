"""The page of a search, opened from disk in a real browser."""

import json
import shutil

import pytest
from conftest import darts
from made_runs import EPOCHS, record_search

from darts_cli.runs.history import read


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
    widths = browser.execute_script('return [...document.querySelectorAll(".op i")].map((bar) => parseFloat(bar.style.width))')
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
    assert f"train {first['train_loss']:.3f}" in text
    assert f"valid {first['valid_accuracy']:.1%}" in text
    skips = [history.genotypes()[0].cells[cell].count("skip_connect") for cell in ("normal", "reduce")]
    assert f"skip connections: {skips[0]} in normal, {skips[1]} in reduce" in text
    assert f"darts search cnn --dataset digits --epochs {EPOCHS} --run {tmp_path / 'run'}" in text
    assert "alpha_betas 0.5 0.999" in text
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
